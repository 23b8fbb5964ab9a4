"""How a sentence that is translated in parts goes on after a prefix of its translation.

The prefix translates the sentence up to the last span that both have. What the prefix has after this span is how the
translation of the next part begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_service.text.spans import Span
from dragoman_service.translation.prefix import places_of
from dragoman_service.translation.protection import Segment, Unit, outputs_of, parts_around


@dataclass(frozen=True, slots=True)
class Continuation:
    """What follows a prefix."""

    done: int
    """Characters of the sentence in whose place the prefix and `between` stand."""
    tail: str
    """The end of the prefix, if it is how the translation of the first part begins."""
    between: str
    """What is written between the prefix and the parts: spaces, punctuation, and spans that the prefix has skipped."""
    parts: tuple[Segment, ...]
    """The parts of the sentence after `done`, in order."""


def continuation(prefix: str, text: str, spans: Sequence[Span | Unit]) -> Continuation:
    """How a sentence with spans is translated in parts after a prefix of its translation."""
    outputs = outputs_of(text, spans)
    places = places_of(outputs, prefix)
    count = max((number + 1 for number, place in enumerate(places) if place), default=0)
    skipped = [output for output, place in zip(outputs[:count], places, strict=False) if place is None]
    done = spans[count - 1].end if count else 0
    until = spans[count].start if count < len(spans) else len(text)
    tail = prefix[max((place[1] for place in places if place), default=0) :].lstrip()
    if skipped:
        return _made(text, spans, done, between=_after_space(prefix, f" {' '.join(skipped)}"))
    gap = text[done:until]
    if any(map(str.isalpha, gap)):
        starts = bool(tail) or prefix[-1:].isspace()  # the prefix has the space before the part
        return _made(text, spans, done + starts * (len(gap) - len(gap.lstrip())), tail=tail)
    return _made(text, spans, until, between=_gap(prefix, tail, gap, ends=until == len(text)))


def _gap(prefix: str, tail: str, gap: str, *, ends: bool) -> str:
    """What stands in the place of a gap without letters between two spans, of which the prefix may have some."""
    if gap.strip() and prefix.rstrip().endswith(gap.strip()):
        gap = gap[len(gap.rstrip()) :]
    elif tail and not ends:
        gap = " "
    return _after_space(prefix, gap)


def _after_space(prefix: str, text: str) -> str:
    return text.lstrip() if prefix[-1:].isspace() else text


def _made(text: str, spans: Sequence[Span | Unit], done: int, *, tail: str = "", between: str = "") -> Continuation:
    parts, place = [], 0
    for part in parts_around(text, spans):
        if place >= done:
            parts.append(part)
        place += len(part.text)
    return Continuation(done, tail, between, tuple(parts))
