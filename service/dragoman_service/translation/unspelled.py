"""Finds what a tokenizer cannot spell: characters that give the unknown id or byte pieces."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dragoman_service.repository.models import TextTokenizer
from dragoman_service.text.spans import Kind, Span

_WORD = re.compile(r"[^\W_]+(?:[-'’][^\W_]+)*")
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


def unspelled_spans(text: str, tokenizer: TextTokenizer, spans: Sequence[Span] = ()) -> list[Span]:
    """The spans of a sentence that the tokenizer cannot spell, in order, without what is in `spans`.

    Of a word with such a letter, the whole word is a span, except in scripts without spaces between words.
    """
    ids, offsets = tokenizer.encode_with_offsets(text)
    fallback = tokenizer.fallback_ids
    lost = bytearray(len(text))
    for i, (start, end) in zip(ids, offsets, strict=True):
        if i in fallback:
            lost[start:end] = b"\1" * (end - start)
    for word in _WORD.finditer(text):
        start, end = word.span()
        if any(lost[start:end]) and not _UNSPACED.search(word.group()):
            lost[start:end] = b"\1" * (end - start)
    for span in spans:
        lost[span.start : span.end] = bytes(span.end - span.start)
    return [
        Span(*run.span(), Kind.IDENTIFIER if any(map(str.isalpha, text[slice(*run.span())])) else Kind.SYMBOL)
        for run in re.finditer(b"\1+", lost)
        if not text[slice(*run.span())].isspace()
    ]


def is_foreign(text: str, spans: Sequence[Span]) -> bool:
    """Whether most letters of a sentence are in spans that the tokenizer cannot spell."""
    letters = sum(map(str.isalpha, text))
    inside = sum(character.isalpha() for span in spans for character in text[span.start : span.end])
    return 2 * inside > letters
