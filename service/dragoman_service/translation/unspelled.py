"""Finds what a tokenizer cannot spell: characters that give the unknown id or byte pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dragoman_service.repository.models import TextTokenizer
from dragoman_service.text.characters import UNSPACED
from dragoman_service.text.spans import Kind, Span

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_UNSPACED = re.compile(f"[{UNSPACED}]")


def unspelled_characters(text: str, tokenizer: TextTokenizer) -> bytes:
    """For each character of a text, 1 if the tokenizer cannot spell it, else 0."""
    ids, offsets = tokenizer.encode_with_offsets(text)
    fallback, lost = tokenizer.fallback_ids, bytearray(len(text))
    for i, (start, end) in zip(ids, offsets, strict=True):
        if i in fallback:
            lost[start:end] = b"\1" * (end - start)
    return bytes(lost)


def is_foreign(text: str, lost: bytes) -> bool:
    """Whether most letters of a sentence are lost (see `unspelled_characters`), as in a text of another script."""
    letters = [gone for character, gone in zip(text, lost, strict=True) if character.isalpha()]
    return 2 * sum(letters) > len(letters)


def with_unspelled(text: str, spans: Sequence[Span], lost: bytes) -> list[Span]:
    """The spans of a sentence, and those of its lost characters that are in none of them, in order.

    Of a word with a lost letter, the whole word is a span, except in scripts without spaces between words.
    """
    wanted = bytearray(lost)
    for word in _WORD.finditer(text):
        start, end = word.span()
        if any(lost[start:end]) and not _UNSPACED.search(word.group()):
            wanted[start:end] = b"\1" * (end - start)
    for span in spans:
        wanted[span.start : span.end] = bytes(span.end - span.start)
    found = []
    for start, end in (run.span() for run in re.finditer(b"\1+", wanted)):
        content = text[start:end]
        if not content.isspace():
            found.append(Span(start, end, Kind.IDENTIFIER if any(map(str.isalpha, content)) else Kind.SYMBOL))
    return sorted([*spans, *found], key=lambda span: span.start)
