"""The effect of each choice of a recipe: training runs that differ in one setting, compared by paired bootstrap.

Every run begins with the same model, makes the same number of updates, and lowers its learning rate to zero, where
differences show. So the comparison is about the end of a long training, at a hundredth of its cost, and says nothing
about the first epochs. BLEU is of beam 4. `*` marks a difference from the first row that paired bootstrap resampling
(Koehn 2004, by sacreBLEU, 1,000 samples) finds with p < 0.05.

Test sets are the first lines of files, and sets derived from them. `upper` is the first set in capitals, scored without
case. `numbers` and `names` are lines whose digits or names are in the reference too. Beside their BLEU is the share of
lines whose translation has all of these strings.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from bench.measure.common import ROOT, print_header, print_table

PROSE = r"""[[data.train]]\npath = "train\/en-de-more.tsv.xz"\nwhere_column = 2\nwhere = [\
    { name = "gutenberg-books", weight = 0.5 }, { name = "gutenberg-pivot", weight = 0.3 },\
    { name = "bible-menge", weight = 0.1 }, "djangogirls", "xsid", "sdg-translations", "qald", "osth" ]"""
ROWS: dict[str, tuple[str, ...]] = {
    "recipe": (),
    "another seed": ("--set", "training.seed=2"),
    "dropout 0": ("--set", "model.dropout=0.0"),
    "dropout 0.2": ("--set", "model.dropout=0.2"),
    "without numbers": ("--set", "data.augmentation.numbers=0"),
    "without swapped": ("--set", "data.augmentation.swapped=0.0"),
    "bpe_dropout 0.1": ("--set", "tokenizer.bpe_dropout=0.1"),
    "tatoeba once": ("sed", 's/"tatoeba", weight = 2/"tatoeba", weight = 1/'),
    "more documentation": ("sed", 's/"ms-docs", weight = 0.2, limit = 90000/"ms-docs", weight = 0.5/'),
    "further prose": ("sed", rf"s/\[\[data.validation\]\]/{PROSE}\n\n[[data.validation]]/"),
}
"""Name -> options of `dragoman train`, or the edit by `sed -z` that changes the recipe."""
SETS = ("dev/tatoeba-valid.en-de", "dev/dialogue-valid.en-de", "dev/newstest2013.en-de", "multi30k/val")
LINES = 600
"""Lines of each set."""
PROBED = 300
"""Most lines of a set that is derived from others."""
_DIGITS = re.compile(r"\d+")
_NAME = re.compile(r"(?<=\w )(?!Tom|Mary|Boston)[A-Z][a-z]{2,}")
"""A name inside a sentence, other than those that are frequent in the training text."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A test set. `wanted` returns the strings of a source that its translation should have too."""

    name: str
    sources: list[str]
    references: list[str]
    wanted: Callable[[str], set[str]] | None = None

    def copied(self, outputs: Sequence[str]) -> float:
        """The share of lines whose translation has all wanted strings."""
        assert self.wanted is not None
        return sum(
            self.wanted(s) <= set(re.findall(r"\w+", o)) for s, o in zip(self.sources, outputs, strict=True)
        ) / len(outputs)


def probes(data: Path) -> list[Probe]:
    """The test sets."""
    sets = [
        Probe(Path(name).name.split("-")[0].split(".")[0], _head(data / f"{name}.en"), _head(data / f"{name}.de"))
        for name in SETS
    ]
    sets.append(Probe("upper", [text.upper() for text in sets[0].sources[:PROBED]], sets[0].references[:PROBED]))
    lines = [
        pair for name in SETS[:3] for pair in zip(_lines(data / f"{name}.en"), _lines(data / f"{name}.de"), strict=True)
    ]
    for name, pattern in (("numbers", _DIGITS), ("names", _NAME)):

        def wanted(text: str, pattern: re.Pattern[str] = pattern) -> set[str]:
            return set(pattern.findall(text))

        found = [(s, t) for s, t in lines if wanted(s) and wanted(s) <= set(re.findall(r"\w+", t)) and len(s) < 160]
        step = max(1, len(found) // PROBED)
        sources, references = zip(*found[::step][:PROBED], strict=True)
        sets.append(Probe(name, list(sources), list(references), wanted))
    return sets


def run_row(name: str, args: argparse.Namespace, sets: Sequence[Probe], folder: Path) -> list[list[str]]:
    """Train and translate; steps whose result exists are skipped. Returns the translations of each set."""
    command = [str(Path(sys.executable).with_name("dragoman"))]
    recipe, options = ROOT / "recipes" / "en-de.toml", ROWS[name]
    if options[:1] == ("sed",):
        text = subprocess.run(["sed", "-z", options[1], recipe], capture_output=True, text=True, check=True).stdout
        assert text != recipe.read_text(encoding="utf-8")
        recipe, options = folder / "recipe.toml", ()
        recipe.write_text(text, encoding="utf-8")
    settings = {
        "max_steps": args.updates, "warmup_steps": 20, "cooldown_steps": args.updates - 20,
        "learning_rate_scale": 0.02, "batch_tokens": 4096, "validate_every": args.updates, "average_checkpoints": 1,
    }  # fmt: skip
    train = [*command, "train", str(recipe), "--data", str(args.data), "--output", str(folder / "run"), *options]
    train += ["--init", str(args.init), "--threads", str(args.threads)]
    for field, value in settings.items():
        train += ["--set", f"training.{field}={value}"]
    result = folder / "run" / "averaged"
    if not result.exists():
        shutil.rmtree(folder / "run", ignore_errors=True)  # an interrupted run
        subprocess.run(train, check=True)
    bundle = folder / "bundle" / "en-de" / "1"  # translates several times as fast as the checkpoint
    if not bundle.exists():
        subprocess.run([*command, "export", str(result), "--output", str(bundle)], check=True)
    evaluate = [*command, "evaluate", "--bundle", str(bundle), "--threads", str(args.threads)]
    outputs = []
    for probe in sets:
        source, target, output = (folder / f"{probe.name}.{end}" for end in ("source", "target", "out"))
        source.write_text("".join(f"{text}\n" for text in probe.sources), encoding="utf-8")
        target.write_text("".join(f"{text}\n" for text in probe.references), encoding="utf-8")
        evaluate += ["--source", str(source), "--target", str(target), "--output", str(output)]
        outputs.append(output)
    if not all(output.exists() for output in outputs):
        subprocess.run(evaluate, check=True)
    return [_lines(output) for output in outputs]


def checkpoint_of(bundle: Path, folder: Path) -> Path:
    """Write a checkpoint with the weights of a bundle to `folder`; those of an int8 bundle stay rounded."""
    from dragoman_export.read_back import read_model  # noqa: PLC0415 - imports PyTorch
    from dragoman_model.checkpoint import CheckpointConfig, save_checkpoint  # noqa: PLC0415
    from dragoman_service.bundle.bundle import Bundle  # noqa: PLC0415

    manifest = Bundle.load(bundle).manifest
    model = read_model(bundle, manifest.architecture)
    limits = manifest.limits
    longest = (limits.max_source_tokens, limits.max_target_tokens + 1)
    config = CheckpointConfig(model.config, tuple(manifest.languages.all_pairs()), *longest, {"step": 0})
    save_checkpoint(folder, model.state_dict(), config, (bundle / "tokenizer.model").read_bytes())
    return folder


def main() -> None:
    """Print the table again after each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora, as `dragoman train --data`")
    parser.add_argument("--init", type=Path, required=True, help="initial model of every run: a checkpoint or a bundle")
    parser.add_argument("--output", type=Path, default=Path("runs/learn"), help="(default: runs/learn)")
    parser.add_argument("--updates", type=int, default=300, help="updates, of 4,096 target tokens each (default: 300)")
    parser.add_argument("--only", default=",".join(ROWS), help="rows, separated by commas (default: all)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    if (args.init / "manifest.json").exists():
        args.init = checkpoint_of(args.init, args.output / "init")
    print_header("Learning", {"updates": args.updates})
    sets = probes(args.data)
    base: list[list[str]] = []
    rows: list[list[object]] = []
    for name in ("recipe", *(name for name in args.only.split(",") if name != "recipe")):
        folder = args.output / name.replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        outputs = run_row(name, args, sets, folder)
        base = base or outputs
        rows.append([name, *(_cell(probe, one, two) for probe, one, two in zip(sets, base, outputs, strict=True))])
        print_table(("run", *(probe.name for probe in sets)), rows)


def _cell(probe: Probe, base: list[str], outputs: list[str]) -> str:
    if outputs is base:
        text = f"{_bleu(probe).corpus_score(outputs, [probe.references]).score:.2f}"
    else:
        systems: list[tuple[str, Sequence[str]]] = [("base", base), ("other", outputs)]
        _, scores = PairedTest(systems, {"BLEU": _bleu(probe)}, [probe.references], test_type="bs", n_samples=1000)()
        first, second = scores["BLEU"]
        assert not isinstance(first, str)
        assert not isinstance(second, str)
        star = "*" if second.p_value is not None and second.p_value < 0.05 else ""
        text = f"{second.score - first.score:+.2f}{star}"
    return f"{text} ({probe.copied(outputs):.0%})" if probe.wanted else text


def _bleu(probe: Probe) -> BLEU:
    return BLEU(lowercase=probe.name == "upper", references=[probe.references])


def _head(path: Path) -> list[str]:
    return _lines(path)[:LINES]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
