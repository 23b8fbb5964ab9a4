"""Terms in texts: they are kept spans of the source, and their translations stand in the place of these."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, pairwise

from dragoman_service.text.segmenter import Piece
from dragoman_service.text.spans import Kind, Span, find_spans
from dragoman_service.text.terms import Glossary, Match, Term, find_terms

Range = tuple[int, int]

_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class AppliedTerm:
    """A term, and where its translation stands."""

    term: Term
    source: Range
    """Characters of the source text, start and end."""
    target: Range
    """Characters of the translation."""


def terms_of(text: str, glossaries: Sequence[Glossary]) -> list[Match]:
    """The terms in a text (`find_terms`) that are no parts of URLs and of what else is kept."""
    found = find_terms(text, glossaries)
    if not found:
        return []
    spans = find_spans(text)
    ends = [span.end for span in spans]

    def divides(place: int) -> bool:
        number = bisect_right(ends, place)
        return number < len(spans) and spans[number].start < place

    return [match for match in found if not divides(match.start) and not divides(match.end)]


def with_terms(pieces: Iterable[Piece], terms: Sequence[Match]) -> Iterator[Piece]:
    """The pieces of a text in which all `terms` are marked, with the translations of these in their spans.

    A piece that is not translatable gets spans for its terms too.
    """
    number = 0
    for piece in pieces:
        end = piece.start + len(piece.text)
        own: dict[int, Span] = {}
        while number < len(terms) and terms[number].start < end:
            match, number = terms[number], number + 1
            own[match.start] = Span(match.start, match.end, Kind.MARKED, match.term.target).shifted(-piece.start)
        if not own:
            yield piece
        elif piece.translatable:
            yield replace(piece, spans=tuple(own.get(piece.start + span.start, span) for span in piece.spans))
        else:
            yield replace(piece, spans=tuple(own.values()))


def with_targets(text: str, spans: Sequence[Span], written: str, pairs: Sequence[tuple[Range, Range]]) -> str | None:
    """The translation of a sentence with the targets of its terms; None if a term is aligned to no place of its own.

    Args:
        text: The sentence.
        spans: Its terms.
        written: Its translation.
        pairs: Which words of `text` and of `written` belong together.
    """
    wanted = Counter(span.written or "" for span in spans)
    there = {target: list(_occurrences(target, written, whole=True)) for target in wanted}
    places: list[tuple[Range, str]] = []
    for span in spans:
        target = span.written or ""
        if len(there[target]) >= wanted[target]:  # the model has written it by itself
            places.append((there[target].pop(), target))
            wanted[target] -= 1
            continue
        words = {its for own, its in pairs if span.start <= own[0] and own[1] <= span.end and written[its[0]].isalnum()}
        if not words:
            return None
        places.append((_best_run(words, written, len(_WORD.findall(text[span.start : span.end]))), target))
    places.sort()
    if any(one[1] > other[0] for (one, _), (other, _) in pairwise(places)):
        return None
    pieces, done = [], 0
    for (start, end), target in places:
        pieces += [written[done:start], target]
        done = end
    return "".join([*pieces, written[done:]])


def _best_run(words: Iterable[Range], text: str, most: int) -> Range:
    """The longest of the ranges of at most so many words with spaces between them.

    A noun may have an article, which stays. In scripts without spaces, characters that touch each other are one word.
    """
    runs: list[list[Range]] = []
    for start, end in sorted(words):
        if runs and start == runs[-1][-1][1]:
            runs[-1][-1] = runs[-1][-1][0], end
        elif runs and text[runs[-1][-1][1] : start].isspace():
            runs[-1].append((start, end))
        else:
            runs.append([(start, end)])
    windows = [run[place : place + most] for run in runs for place in range(max(1, len(run) - most + 1))]
    return max(((it[0][0], it[-1][1]) for it in windows), key=lambda it: it[1] - it[0])


def _occurrences(phrase: str, text: str, *, whole: bool) -> Iterator[Range]:
    """Where a phrase stands in a text; with `whole`, where no letter or digit touches it."""
    start = text.find(phrase)
    while start >= 0:
        end = start + len(phrase)
        if whole and (_WORD.match(text[start - 1 : start]) or _WORD.match(text, end, end + 1)):
            start = text.find(phrase, start + 1)
        else:
            yield start, end
            start = text.find(phrase, end)


def places_in_order(targets: Sequence[str], text: str) -> list[Range | None]:
    """Where translations of terms stand in a text that has them in this order."""
    places: list[Range | None] = []
    done = 0
    for target in targets:
        start = text.find(target, done)
        places.append((start, start + len(target)) if start >= 0 else None)
        done = max(done, start + len(target))
    return places


def places_anywhere(targets: Sequence[str], text: str) -> list[Range | None]:
    """Where translations of terms stand in a translated sentence. No two places overlap.

    The longest are looked for first, and each rather at borders of words.
    """
    places: list[Range | None] = [None] * len(targets)
    taken = bytearray(len(text))
    for number in sorted(range(len(targets)), key=lambda it: -len(targets[it])):
        candidates = chain.from_iterable(_occurrences(targets[number], text, whole=whole) for whole in (True, False))
        if (place := next((it for it in candidates if taken.find(1, *it) < 0), None)) is not None:
            places[number] = place
            taken[place[0] : place[1]] = b"\1" * (place[1] - place[0])
    return places
