"""Vocabularies without a SentencePiece model, which split texts at white space or into characters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

_WORD_MARKS = ("▁", "￭", "@@")
"""Marks of SentencePiece, of OpenNMT's tokenizer and of subword-nmt. Pieces with them are parts of words."""


def split_of(pieces: Iterable[str]) -> Literal["characters", "whitespace"] | None:
    """How texts of a vocabulary are split.

    `characters` if every piece that is not special (`<...>`) has one character; `whitespace` if some are longer, but
    none has a mark of subwords; else None, which means that a tokenizer is missing.
    """
    ordinary = [piece for piece in pieces if not (piece.startswith("<") and piece.endswith(">"))]
    if all(len(piece) == 1 for piece in ordinary):
        return "characters"
    return None if any(mark in piece for piece in ordinary for mark in _WORD_MARKS) else "whitespace"
