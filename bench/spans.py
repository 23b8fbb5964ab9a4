"""Kept spans: what to do with a sentence whose stand-ins the model does not copy.

    python bench/spans.py --data DATA

There are two kinds of sentences. In those of documentation, of corpora that the model was not trained with, the spans
are those that a server finds, and stand in the reference as often. In those of the development sets, up to four names
or numbers that stand in both sides are replaced by spans. So all have spans in places of people's choice. They are
translated by greedy search with the stand-ins of the bundle, and those that do not keep all spans then in these ways:

- parts: the parts around the spans;
- other stand-ins, parts: the sentence with other stand-ins, and if it does not keep these either, its parts. A server
  does so;
- aligned, without the spans: the sentence without its spans, each of which is put to the end of the word to which the
  word before it is aligned, or before that of the word after it, if the model aligns only this;
- aligned, first translation: the spans that have come once stay where they are, and the others are placed likewise.

BLEU and chrF are those of the sentences in question, with each span as one word; outside, without the spans.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1]))

from sacrebleu.metrics import BLEU, CHRF

from bench.measure.common import ROOT, print_header, print_table, progress
from bench.measure.in_process import Model
from dragoman_service.engine.request import DecodingOptions, Hypothesis
from dragoman_service.text.segmenter import EncodedPiece, on_one_line
from dragoman_service.text.words import words_of
from dragoman_service.translation.alignment import Range, word_alignment
from dragoman_service.translation.in_parts import in_parts
from dragoman_service.translation.protection import Unit
from dragoman_service.translation.sentences import ProtectedPiece, with_other_stand_ins

PAIRS = ("en-de", "de-en")
SHARED = re.compile(r"[^\W_]+")
IN_PLACE_OF_NAMES = ("{name}", "https://a.example/b", "%1$s", "{count}")


class Sentence(NamedTuple):
    """A sentence with spans."""

    piece: ProtectedPiece
    reference: str

    @property
    def spans(self) -> list[Unit]:
        """Its spans that have stand-ins."""
        return [unit for unit in self.piece.protected.units if unit.shown != unit.text]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with dev/ and train/")
    parser.add_argument("--sentences", type=int, default=2000, help="of each kind and direction")
    parser.add_argument("--bundles", type=Path, nargs="*", default=[ROOT / f"deploy/models/{it}/1" for it in PAIRS])
    given = parser.parse_args()
    print_header("Spans that are not kept", {"sentences of each kind": given.sentences})
    rows: list[list[str]] = []
    for path in given.bundles:
        model = Model(path)
        kinds = {
            "documentation": model.unseen_pairs(given.data),
            "names replaced": (with_names_replaced(*pair) for pair in model.development_pairs(given.data)),
        }
        for kind, pairs in kinds.items():
            sentences = list(islice(_usable(model, pairs), given.sentences))
            progress(f"{model.manifest.name}, {kind}: {len(sentences)} sentences")
            first = model.translated([it.piece for it in sentences])
            lost = [
                (it, found)
                for it, found in zip(sentences, first, strict=True)
                if it.piece.restored(model.text(found)) is None
            ]
            share = f"{len(lost)} of {len(sentences)}"
            chosen, their_first = zip(*lost, strict=True)
            for way, (texts, split) in ways(model, chosen, their_first).items():
                rows.append([model.manifest.name, kind, share, way, str(split), *scores(texts, chosen)])
    header = ["model", "sentences", "not kept", "way", "in parts", "BLEU", "chrF", "BLEU outside", "chrF outside"]
    print_table(header, rows)


def with_names_replaced(source: str, reference: str) -> tuple[str, str]:
    """A pair with spans in the place of words with a capital, or numbers, that stand in both sides once."""
    ours, theirs = (Counter(SHARED.findall(side)) for side in (source, reference))
    shared = [
        word
        for word, count in ours.items()
        if count == theirs[word] == source.count(word) == reference.count(word) == 1
        and len(word) > 1
        and (word[0].isupper() or word.isdigit())
    ]
    for word, span in zip(shared, IN_PLACE_OF_NAMES, strict=False):
        source, reference = source.replace(word, span), reference.replace(word, span)
    return source, reference


def _usable(model: Model, pairs: Iterable[tuple[str, str]]) -> Iterator[Sentence]:
    """Pairs of one sentence each, with spans that stand in the reference as often, and three words of two letters."""
    for source, reference in pairs:
        prepared = model.prepared(source)
        if len(prepared.sentences) != 1 or not isinstance(piece := prepared.sentences[0], ProtectedPiece):
            continue
        place = prepared.pieces.index(piece)
        before, after = ("".join(it.output for it in part) for part in _around(prepared.pieces, place))
        found = Sentence(piece, reference.removeprefix(before).removesuffix(after))
        wanted = Counter(unit.text for unit in found.spans)
        as_often = all(piece.text.count(it) == found.reference.count(it) == count for it, count in wanted.items())
        if wanted and as_often and sum(len(word) > 1 and word.isalpha() for word in piece.text.split()) >= 3:
            yield found


def _around(pieces: Sequence[EncodedPiece], place: int) -> tuple[Sequence[EncodedPiece], Sequence[EncodedPiece]]:
    return pieces[:place], pieces[place + 1 :]


def ways(model: Model, sentences: Sequence[Sentence], first: Sequence[Hypothesis]) -> dict[str, tuple[list[str], int]]:
    """The translations of sentences in each way, and how many of them are in parts."""
    parts, others = by_parts(model, sentences), with_others(model, sentences)
    either = [other or in_part for other, in_part in zip(others, parts, strict=True)]
    repaired_first = [repaired(model, *pair) for pair in zip(sentences, first, strict=True)]
    return {
        "parts": (parts, len(parts)),
        "other stand-ins, parts": (either, others.count(None)),
        "aligned, without the spans": (without_spans(model, sentences), 0),
        "aligned, first translation": (repaired_first, 0),
    }


def by_parts(model: Model, sentences: Sequence[Sentence]) -> list[str]:
    """The translations in parts."""
    attempts = [in_parts(it.piece, None, model.route, DecodingOptions()) for it in sentences]
    found = iter(model.translated([part for attempt in attempts for part, _ in attempt.wanted]))
    return [attempt.text([model.text(next(found)) for _ in attempt.wanted]) for attempt in attempts]


def with_others(model: Model, sentences: Sequence[Sentence]) -> list[str | None]:
    """The translations with other stand-ins that keep the spans."""
    others = [with_other_stand_ins(it.piece, model.route) for it in sentences]
    found = iter(model.translated([it for it in others if it]))
    return [it and it.restored(model.text(next(found))) for it in others]


def without_spans(model: Model, sentences: Sequence[Sentence]) -> list[str]:
    """The translations without spans, with these at the places to which the words beside them are aligned."""
    texts, places = [], []
    for sentence in sentences:
        source, text, done = sentence.piece.protected.text, "", 0
        own = []
        for unit in sentence.spans:
            text = (text + source[done : unit.start]).lstrip()
            if not source[unit.end : unit.end + 1].strip():
                text = text.rstrip()
            own.append(len(text))
            done = unit.end
        texts.append((text + source[done:]).strip())
        places.append(own)
    pieces = [EncodedPiece(text, model.bundle.tokenizer.encode(text)) for text in texts]
    found = []
    for sentence, piece, own, hypothesis in zip(sentences, pieces, places, model.translated(pieces), strict=True):
        written = on_one_line(model.text(hypothesis))
        pairs = word_alignment(piece, hypothesis, written, model.route)
        words = words_of(piece.text)
        targets = [place_of(place, words, pairs, len(written)) for place in own]
        found.append(inserted(written, sentence.spans, targets))
    return found


def repaired(model: Model, sentence: Sentence, first: Hypothesis) -> str:
    """The first translation with all spans: the lost ones where the words beside them are aligned to."""
    shown, written = sentence.piece.protected.shown(), on_one_line(model.text(first))
    pairs = word_alignment(EncodedPiece(shown, model.bundle.tokenizer.encode(shown)), first, written, model.route)
    stand_ins = [unit.shown for unit in sentence.spans]
    words = [word for word in words_of(shown) if shown[slice(*word)] not in stand_ins]
    there = [match.start() for match in re.finditer("|".join(map(re.escape, stand_ins)), written)]
    targets = []
    for unit in sentence.spans:
        place = written.find(unit.shown)
        targets.append(place if place >= 0 else place_of(shown.find(unit.shown), words, pairs, len(written)))
    size = len(stand_ins[0])
    moved = [place - size * sum(it < place for it in there) for place in targets]
    cut = re.sub("|".join(map(re.escape, stand_ins)), "", written)
    return inserted(cut, sentence.spans, [max(0, place) for place in moved])


def place_of(place: int, words: Sequence[Range], pairs: Sequence[tuple[Range, Range]], end: int) -> int:
    """The place in a translation that belongs to a place between words of the source."""
    before = [(place - own[1], max(its[1] for one, its in pairs if one == own)) for own, _ in pairs if own[1] <= place]
    after = [(own[0] - place, min(its[0] for one, its in pairs if one == own)) for own, _ in pairs if own[0] >= place]
    if not any(word[1] <= place for word in words):
        return 0
    nearest = min([*before, *after], default=(0, end))
    return nearest[1]


def inserted(text: str, units: Sequence[Unit], places: Sequence[int]) -> str:
    """A translation with units at places, with spaces beside them. Those whose order is fixed keep it."""
    ordered = sorted(place for unit, place in zip(units, places, strict=True) if unit.ordered)
    fixed = [ordered.pop(0) if unit.ordered else place for unit, place in zip(units, places, strict=True)]
    pieces, done = [], 0
    for place, unit in sorted(zip(fixed, units, strict=True), key=lambda pair: pair[0]):
        pieces += [text[done:place], f" {unit.text} "]
        done = place
    joined = " ".join("".join([*pieces, text[done:]]).split())
    return re.sub(r" (?=[.,;:!?)\]])|(?<=[(\[]) ", "", joined)


def scores(texts: Sequence[str], sentences: Sequence[Sentence]) -> list[str]:
    """BLEU and chrF, with each span as one word, and without the spans."""
    found = []
    references = [it.reference for it in sentences]
    for form in (" SPAN{} ", " "):
        ours, theirs = (
            [_with_words(text, it.spans, form) for text, it in zip(side, sentences, strict=True)]
            for side in (texts, references)
        )
        found += [metric.corpus_score(ours, [theirs]).score for metric in (BLEU(force=True), CHRF())]
    return [f"{score:.2f}" for score in found]


def _with_words(text: str, spans: Sequence[Unit], form: str) -> str:
    """A text with words of a form in the place of its spans."""
    for number, span in enumerate(sorted({unit.text for unit in spans}, key=len, reverse=True)):
        text = text.replace(span, form.format(number))
    return " ".join(text.split())


if __name__ == "__main__":
    main()
