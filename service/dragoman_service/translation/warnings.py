"""What a reply warns of."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class WarningKind(enum.Enum):
    """The kinds of warnings."""

    SOURCE_NOT_READABLE = "source_not_readable"
    """The model does not know the characters of a sentence, as those of another script. It is returned as it is."""
    SPANS_IN_PARTS = "spans_in_parts"
    """The model did not keep the spans of a sentence, which was translated in the parts around them."""
    NUMBER_MISSING = "number_missing"
    """A number of the source is not found in the translation."""
    REPETITION = "repetition"
    """The translation of a sentence was stopped because it repeated itself without end."""
    TERM_MISSING = "term_missing"
    """The translation of a term does not stand in that of its sentence."""
    EMPTY = "empty"
    """The model produced nothing, and the sentence is returned as it is."""


@dataclass(frozen=True, slots=True)
class TextWarning:
    """A warning about a part of a text."""

    kind: WarningKind
    start: int
    """Characters `start` to `end` of the source text."""
    end: int
    message: str
