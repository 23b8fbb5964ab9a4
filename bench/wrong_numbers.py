"""Numbers: of how many references and translations a server warns, and how many it could repair by alignments.

    python bench/wrong_numbers.py --data DATA

The sentences have a number and no kept span. A warning of a reference is a false alarm, as a rule. A repair would write
the number of the source in the place of another one. It is counted if the translation lacks one number of the source
and has one that is none of it, both without separators and once, with no sign or letter beside them and not twelve
apart (as hours are), and the model aligns the one to the other. It is right if the reference has the number and not the
other one.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import ROOT, print_header, print_table, progress
from bench.measure.in_process import Model
from dragoman_service.engine.request import Hypothesis
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.alignment import word_alignment
from dragoman_service.translation.numbers import missing_numbers
from dragoman_service.translation.sentences import is_plain

PAIRS = ("en-de", "de-en")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dev/ and train/")
    parser.add_argument("--sentences", type=int, default=5000, help="of each kind and direction")
    parser.add_argument("--bundles", type=Path, nargs="*", default=[ROOT / f"deploy/models/{it}/1" for it in PAIRS])
    given = parser.parse_args()
    print_header("Numbers", {"sentences of each kind": given.sentences})
    rows = []
    for path in given.bundles:
        model = Model(path)
        kinds = {
            "development sets": model.development_pairs(given.data),
            "documentation": model.unseen_pairs(given.data),
        }
        for kind, pairs in kinds.items():
            found = list(islice(_with_numbers(model, pairs), given.sentences))
            progress(f"{model.manifest.name}, {kind}: {len(found)} sentences")
            rows.append([model.manifest.name, kind, str(len(found)), *measured(model, found)])
    header = ["model", "kind", "sentences", "references warned of", "translations warned of", "repairs", "right"]
    print_table(header, rows)


def _with_numbers(model: Model, pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[EncodedPiece, str]]:
    for source, reference in pairs:
        if re.search("[0-9]", source):
            pieces = model.prepared(source).pieces
            if len(pieces) == 1 and pieces[0].tokens and is_plain(pieces[0]):
                yield pieces[0], reference


def measured(model: Model, pairs: list[tuple[EncodedPiece, str]]) -> list[str]:
    """The last four columns."""
    of_references = of_translations = repairs = right = 0
    for (piece, reference), hypothesis in zip(pairs, model.translated([piece for piece, _ in pairs]), strict=True):
        written = piece.written(model.text(hypothesis))
        of_references += bool(missing_numbers(piece.text, reference, model.target))
        of_translations += bool(missing_numbers(piece.text, written, model.target))
        if repair := repair_of(model, piece, hypothesis, written):
            number, other = repair
            repairs += 1
            has_number = not missing_numbers(number, reference, model.target)
            right += has_number and bool(missing_numbers(other, reference, model.source))
    return [f"{100 * it / len(pairs):.1f} %" for it in (of_references, of_translations)] + [str(repairs), str(right)]


def repair_of(model: Model, piece: EncodedPiece, hypothesis: Hypothesis, written: str) -> tuple[str, str] | None:
    """A number of the source, and the other one in whose place it belongs."""
    lacking, others = (
        missing_numbers(piece.text, written, model.target),
        missing_numbers(written, piece.text, model.source),
    )
    if len(lacking) != 1 or len(others) != 1:
        return None
    number, other = lacking[0], others[0]
    ours, theirs = (_alone(it, text) for it, text in ((number, piece.text), (other, written)))
    if ours is None or theirs is None or abs(int(number) - int(other)) == 12:
        return None
    pairs = word_alignment(piece, hypothesis, written, model.route)
    return (number, other) if (ours, theirs) in pairs else None


def _alone(number: str, text: str) -> tuple[int, int] | None:
    """Where a number without separators stands in a text, if it does so once, with no letter or sign beside it."""
    found = list(re.finditer(rf"(?<![^\s(\"„“]){re.escape(number)}(?=[\s.,;:!?)\"”“]|$)(?![.,:][0-9])", text))
    return found[0].span() if len(found) == 1 and text.count(number) == 1 and number.isdigit() else None


if __name__ == "__main__":
    main()
