"""Sentences in capitals: they are translated in lower case, and the translation is put in capitals.

A subword vocabulary has few pieces of capital letters. A model would read such a sentence nearly letter by letter and
translate it badly.
"""

from __future__ import annotations

import re

_WORD = re.compile(r"[^\W\d_]{2,}")
_LEAST_WORDS = 2
"""Words of two letters or more. A single word may be an acronym, such as NATO or SQL."""
_DOTTED_I = frozenset({"tr", "az"})
"""Languages in which the capital of i is not I, so that Python's case conversion is wrong."""


def in_capitals(sentence: str, source_language: str, target_language: str) -> bool:
    """Whether a sentence has several words, all in capitals, and Python converts the case of both languages rightly."""
    if _DOTTED_I & {language.split("-")[0] for language in (source_language, target_language)}:
        return False
    words = _WORD.findall(sentence)
    # Each word is checked: `str.isupper` of the sentence ignores words without case, such as those in Chinese.
    return sentence.isupper() and len(words) >= _LEAST_WORDS and all(map(str.isupper, words))


def in_small_letters(sentence: str) -> str:
    """The sentence in lower case but for its first character. Names lose their capital."""
    return sentence[:1] + sentence[1:].lower()
