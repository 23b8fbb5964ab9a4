"""SENTENCES IN CAPITALS: read in small letters, their translations put in capitals.

A subword vocabulary has few pieces of capitals, so that a model reads them nearly letter by letter and understands
little; it is the same sentence all the same.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_WORDS = 2
"""Of two letters or more. A single one may be a name: NATO, SQL."""
_DOTTED_I = frozenset({"tr", "az"})
"""Languages in which the capital of i is not I."""


def in_capitals(sentence: str, source_language: str, target_language: str) -> bool:
    """Whether all words of a sentence are in capitals, several of them, in languages that know what that is."""
    if _DOTTED_I & {language.split("-")[0] for language in (source_language, target_language)}:
        return False
    words = _WORD.findall(sentence)
    # Each on its own: a sentence counts as upper case although most of its words have no case at all.
    return sentence.isupper() and len(words) >= _LEAST_WORDS and all(map(str.isupper, words))


def in_small_letters(sentence: str) -> str:
    """As somebody would write it who does not shout, and does not know what is a name."""
    return sentence[:1] + sentence[1:].lower()
