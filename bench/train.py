"""Training speed, in target tokens a second, of Dragoman, of an older Dragoman, and of three peers.

All train a Transformer of the preset `small`, with dropout in the same places and label smoothing, on the same text in
the same subwords, with the same number of target tokens a batch and the same number of threads. An update is complete:
forward pass, smoothed cross-entropy, backward pass, gradient norm, Adam. Each trainer is a separate process
(bench/peers/trainers), in a separate environment if its packages require it. They take turns.

    python bench/train.py --data train/en-de.tsv.xz --old ../dragoman-of-before
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from bench.measure.common import (
    DEFAULT_CACHE,
    ROOT,
    int_list,
    interleaved,
    name_list,
    print_header,
    print_table,
    progress,
    ratio,
)
from dragoman_model.data.corpus import read_columns
from dragoman_service.bundle.tokenizer import Tokenizer

TRAINERS = Path(__file__).parent / "peers" / "trainers"
TOKENIZER = ROOT / "deploy/models/en-de/1/tokenizer.model"
LONGEST = 250
"""Most subwords of a sentence. Pairs with longer ones are left out, so that all trainers learn the same pairs."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A trainer to compare."""

    module: str
    """Its worker in bench/peers/trainers."""
    environment: str = ""
    """Name of its virtual environment; empty for that of this process."""
    install: str = ""
    """Packages of its environment: the arguments of one or several `pip install`."""
    sorted: bool = False
    """See `Settings.sorted` of the workers."""
    precisions: tuple[str, ...] = ("fp32", "bf16")
    """Precisions that it supports. A trainer without bf16 is compared in fp32; only Dragoman has `auto`."""


JOEYNMT = (
    "torch==2.13.0 numpy && {pip} --no-deps 'joeynmt==2.3.*' && {pip} importlib_metadata packaging pyyaml tensorboard "
    "sacrebleu sentencepiece subword-nmt matplotlib tqdm"
)
KINDS = {
    "Dragoman": Kind("dragoman.py", precisions=("fp32", "bf16", "auto")),
    "Dragoman old": Kind("dragoman.py", precisions=("fp32", "bf16", "auto")),
    "transformers": Kind("transformers_marian.py", "transformers", "torch==2.13.0 numpy transformers"),
    "JoeyNMT": Kind("joeynmt_trainer.py", "joeynmt", JOEYNMT),
    "JoeyNMT sorted": Kind("joeynmt_trainer.py", "joeynmt", JOEYNMT, sorted=True),
    "Marian": Kind("marian_trainer.py", "marian", "'pymarian==1.12.*'", precisions=("fp32",)),
}


class TrainerFailed(Exception):
    """A trainer could not be started, or has ended. The message says why."""


class Trainer:
    """A running process of one of `KINDS`."""

    def __init__(self, name: str, settings: dict[str, Any], args: argparse.Namespace, log: Path) -> None:
        """Start the trainer and wait until it is ready.

        Raises:
            TrainerFailed: its environment is missing, or its preparation failed.
        """
        kind = KINDS[name]
        self.name, self._log = name, log
        self.precision = settings["precision"] if settings["precision"] in kind.precisions else "fp32"
        self.updates: list[float] = []
        """Mean target tokens of an update, for each round."""
        checkout = args.old if name == "Dragoman old" else ROOT
        given = settings | {"precision": self.precision, "sorted": kind.sorted, "checkout": str(checkout)}
        command = [str(_python(kind, args.environments)), str(TRAINERS / kind.module), json.dumps(given)]
        threads = str(settings["threads"])
        environment = os.environ | {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        environment.pop("PYTHONPATH", None)  # it would add this process's packages to other environments
        if args.preload:
            environment["LD_PRELOAD"] = str(args.preload)
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        self.versions: list[str] = self._receive()

    def seconds_per_token(self) -> float:
        """Run a round. Returns its seconds per target token. Raises TrainerFailed."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # if the process has ended, `_receive` reports it
            self._process.stdin.write("round\n")
            self._process.stdin.flush()
        found = self._receive()
        self.updates.append(found["tokens"] / found["updates"])
        progress(f"{self.name} {self.precision}: {found['tokens'] / found['seconds']:,.0f} target tokens/s")
        return float(found["seconds"] / found["tokens"])

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _receive(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process has ended"}
        if isinstance(answer, dict) and "error" in answer:
            self.close()
            progress(self._log.read_text(errors="replace")[-3000:])
            raise TrainerFailed(answer["error"])
        return answer


def _python(kind: Kind, environments: Path) -> Path:
    if not kind.environment:
        return Path(sys.executable)
    folder = environments / kind.environment
    python = folder.expanduser() / "bin/python"
    if not python.is_file():
        pip = f"{folder}/bin/pip install"
        install = f"{pip} {kind.install.format(pip=pip)}"
        raise TrainerFailed(f"it has no environment; this makes it: python -m venv {folder} && {install}")
    return python


def write_text(pairs: Iterable[tuple[str, str]], tokenizer_file: Path, folder: Path) -> tuple[int, int]:
    """Write the files that the workers read: `text.tsv`, `ids.json`, `tokenizer.model`.

    Returns:
        The number of pairs, and of target tokens with the end of each sentence.
    """
    tokenizer = Tokenizer(tokenizer_file)
    lines, sources, targets = [], [], []
    for source, target in pairs:
        source_ids, target_ids = list(tokenizer.encode(source)), list(tokenizer.encode(target))
        if 0 < len(source_ids) <= LONGEST and 0 < len(target_ids) <= LONGEST:
            lines.append(f"{source}\t{target}\n")
            sources.append(source_ids)
            targets.append(target_ids)
    if not lines:
        raise SystemExit("there are no pairs in the text")
    (folder / "text.tsv").write_text("".join(lines), encoding="utf-8")
    ids = {"vocabulary": tokenizer.vocab_size, "source": sources, "target": targets}
    (folder / "ids.json").write_text(json.dumps(ids), encoding="utf-8")
    (folder / "tokenizer.model").write_bytes(tokenizer_file.read_bytes())
    return len(lines), sum(len(target) + 1 for target in targets)


def measure(names: Iterable[str], settings: dict[str, Any], args: argparse.Namespace) -> tuple[list[Any], set[str]]:
    """Time the trainers in turns.

    Returns:
        Rows of the table, and notes: versions of the trainers, or why one is left out.
    """
    trainers: dict[str, Trainer] = {}
    notes = set()
    with contextlib.ExitStack() as stack:
        for name in names:
            if settings["precision"] == "auto" and "auto" not in KINDS[name].precisions:
                continue
            progress(f"starting {name}")
            try:
                trainer = Trainer(name, settings, args, Path(settings["folder"]) / "log")
            except TrainerFailed as failed:
                notes.add(f"{name} is left out: {failed}")
                continue
            stack.callback(trainer.close)
            trainers[name] = trainer
            notes.add(f"{name}: {', '.join(trainer.versions)}")
        timings = interleaved({name: trainer.seconds_per_token for name, trainer in trainers.items()}, args.repeats)
    rows = []
    for name, trainer in trainers.items():
        times = f"{ratio(timings[name], timings['Dragoman']):.2f}" if "Dragoman" in timings else ""
        rate, size = 1 / timings[name].median, statistics.median(trainer.updates)
        spread = f"{timings[name].spread:.0%}"
        rows.append([settings["batch_tokens"], trainer.precision, name, f"{rate:,.0f}", spread, f"{size:,.0f}", times])
    return rows, notes


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="pairs in the first columns of a TSV")
    parser.add_argument("--pairs", type=int, default=20_000, help="how many pairs (default: 20000)")
    parser.add_argument("--every", type=int, default=1, help="take every N-th line (default: 1)", metavar="N")
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER, help="(default: that of the bundled model)")
    parser.add_argument("--old", type=Path, metavar="FOLDER", help="an older checkout of Dragoman to compare with")
    parser.add_argument(
        "--environments", type=Path, default=DEFAULT_CACHE / "trainers", metavar="FOLDER",
        help=f"folder of the other trainers' virtual environments (default: {DEFAULT_CACHE / 'trainers'})",
    )  # fmt: skip
    parser.add_argument("--trainers", type=name_list, help=f"some of {', '.join(KINDS)} (default: all)")
    parser.add_argument(
        "--batch-tokens", type=int_list, default=[2048], help="target tokens of a batch (default: 2048)"
    )
    parser.add_argument(
        "--precisions", type=name_list, help="default: fp32, and bf16 and auto if the processor has bf16"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(default: all cores)")
    parser.add_argument("--preload", type=Path, metavar="LIB", help="LD_PRELOAD of all trainers, such as an allocator")
    parser.add_argument("--seconds", type=float, default=10.0, help="least seconds of a round (default: 10)")
    parser.add_argument(
        "--cpu-time", action="store_true",
        help="measure processor time, for a machine that others use; meaningful only with --threads 1",
    )  # fmt: skip
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    return parser


def main() -> None:
    """Print the table."""
    args = argument_parser().parse_args()
    names = list(KINDS) if args.trainers is None else args.trainers
    if unknown := set(names) - set(KINDS):
        raise SystemExit(f"no such trainers: {', '.join(sorted(unknown))}")
    bf16 = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    precisions = args.precisions or (["fp32", "bf16", "auto"] if bf16 else ["fp32"])
    rows: list[Any] = []
    notes: set[str] = set()
    if args.old is None and "Dragoman old" in names:
        names.remove("Dragoman old")
        notes.add("Dragoman old is left out: --old FOLDER names its checkout")
    with tempfile.TemporaryDirectory(prefix="dragoman-bench-") as name:
        found = itertools.islice(read_columns(args.data, [0, 1]), 0, args.pairs * args.every, args.every)
        pairs, tokens = write_text(
            ((source.strip(), target.strip()) for source, target in found), args.tokenizer, Path(name)
        )
        settings = {"preset": "small", "pairs": f"{pairs:,}", "target tokens": f"{tokens:,}", "threads": args.threads}
        settings |= {"preload": args.preload.name if args.preload else "nothing"}
        settings |= {"seconds": "of the processor" if args.cpu_time else "of the clock"}
        settings |= {"rounds": f"{args.repeats} of {args.seconds:g} s", "of the text every line": args.every}
        print_header("Training", settings)
        for batch_tokens, precision in itertools.product(args.batch_tokens, precisions):
            common = {"folder": name, "precision": precision, "batch_tokens": batch_tokens}
            common |= {"threads": args.threads, "seconds": args.seconds, "cpu_time": args.cpu_time}
            more, said = measure(names, common, args)
            rows += more
            notes |= said
    print("\n".join(f"- {note}" for note in sorted(notes)) + "\n")
    columns = ("batch", "precision", "trainer", "target tokens/s", "spread", "tokens of an update", "Dragoman's, times")
    print_table(columns, rows)


if __name__ == "__main__":
    main()
