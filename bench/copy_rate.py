"""How often models keep spans inside sentences, by stand-ins and number of spans.

    python bench/copy_rate.py --data DATA

Each sentence has one to four spans in the places of random words; `all` is for their numbers in texts (`COUNTS`). A
translation counts if it has every stand-in once, standing alone. With a beam, the server also takes a later hypothesis
that keeps the spans; this is not counted here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import ROOT, print_header, print_table, progress
from dragoman_export.copy_rate import CANDIDATES, MOST_SPANS, SPAN, kept, spanned, translate_texts
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.runtime.runner import OrtRunner

SETS = ("dev/tatoeba-valid.en-de", "dev/dialogue-valid.en-de", "dev/newstest2013.en-de")
ROWS = 32


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with the sets of sentences")
    parser.add_argument("--bundles", type=Path, nargs="*", default=[ROOT / f"deploy/models/{it}/1" for it in PAIRS])
    parser.add_argument("--sentences", type=int, default=300, help="of each set")
    parser.add_argument("--beam-size", type=int, default=4)
    given = parser.parse_args()
    print_header("Spans kept", {"sentences of each set": given.sentences, "beam size": given.beam_size})
    rows = []
    for path in given.bundles:
        bundle = Bundle.load(path)
        source, target = bundle.manifest.languages.pairs[0]
        runner = OrtRunner(bundle, max_rows=ROWS, threads=2, prove=False)
        translated = partial(
            translate_texts,
            runner=runner,
            manifest=bundle.manifest,
            tokenizer=bundle.tokenizer,
            source_language=source,
            target_language=target,
            options=DecodingOptions(beam_size=given.beam_size),
            max_rows=ROWS,
        )
        lines = [line for name in SETS for line in _lines(given.data / f"{name}.{source}")[: given.sentences]]
        sentences = spanned(lines, len(lines))
        for name, stand_ins in CANDIDATES.items():
            progress(f"{bundle.manifest.name}: {name}")
            shares = _shares(sentences, kept(sentences, stand_ins, translated))
            rows.append([bundle.manifest.name, name, ", ".join(stand_ins[:2]), *shares])
    print_table(["model", "stand-ins", "such as", *(f"{n} spans" for n in range(1, MOST_SPANS + 1)), "all"], rows)


PAIRS = ("en-de", "de-en")


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8").splitlines() if 4 <= len(line.split()) <= 25]


def _shares(sentences: Sequence[str], found: Sequence[bool]) -> list[str]:
    """The share of kept sentences for each number of spans, and of all."""
    groups: dict[int, list[bool]] = {number: [] for number in range(1, MOST_SPANS + 1)}
    for sentence, is_kept in zip(sentences, found, strict=True):
        groups[sentence.count(SPAN)].append(is_kept)
    return [f"{100 * sum(group) / max(1, len(group)):.0f} %" for group in (*groups.values(), found)]


if __name__ == "__main__":
    main()
