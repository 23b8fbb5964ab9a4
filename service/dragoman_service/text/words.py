"""Words of a text, in any script: the units of word alignments."""

from __future__ import annotations

import re

_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PRIVATE = "\U000f0000-\U0010ffff"
"""Stand for something else, each by itself."""
_WORD = re.compile(rf"[{_UNSPACED}{_PRIVATE}]|[^\W_{_UNSPACED}]+(?:['’-][^\W_{_UNSPACED}]+)*|[^\w\s{_PRIVATE}]+|_+")


def words_of(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Start and end of each word, of each character of a script without spaces between words, and of punctuation."""
    return [match.span() for match in _WORD.finditer(text, start, len(text) if end is None else end)]
