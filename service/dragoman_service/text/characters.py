"""Classes of characters, written to stand between the brackets of a regular expression, and grapheme clusters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

LETTER = (
    "A-Za-z\u00aa\u00b5\u00ba\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u0300-\u036f\u0370-\u037d\u037f-\u0386\u0388-\u03ff"
    "\u0400-\u052f\u1e00-\u1fff"
)
"""Letters of Latin, Greek and Cyrillic, whose words have spaces between them, and the accents that follow letters."""
WORD = LETTER + "0-9_"
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3021-\u3029\u3031-\u3035\u303b"
    "\u3040-\u30fa\u30fc-\u31ff\u3400-\u9fff\ua960-\ua97f\uac00-\ud7ff\uf900-\ufaff\uff10-\uff19\uff21-\uff3a"
    "\uff41-\uff5a\uff66-\uffdc\U00020000-\U0003ffff"
)
"""Letters of the scripts of East and South-East Asia, in which a word may follow another without a space."""
JOINING = "\u0590-\u10ff\u1700-\u1cff\ua800-\uabff\U00010a00-\U00011fff"
"""Letters and marks of the scripts whose spelling uses the joiners U+200C and U+200D."""
CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029"
SPACE_CONTROL = "\t-\r\x1c-\x1f\x85\u2028\u2029"
"""Control characters that are white space: line breaks and tabs."""
INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0"
    "\ufff0-\ufffb\ufffe\uffff\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
"""Format characters, which have no shape, but for the joiners; and surrogates, which are no characters."""
MODIFIER = "\ufe00-\ufe0f\U000e0100-\U000e01ef\U0001f3fb-\U0001f3ff\U000e0020-\U000e007f"
"""Variation selectors, skin tones and tags, which change the symbol before them."""
_REGIONAL = "\U0001f1e6-\U0001f1ff"
_RAISED_SIGNS = "\u207a-\u207f\u208a-\u208e\u2071\u2099"
_BULLETS = "\u2020-\u2023\u203b\u2043\u00b6"
_PRIVATE = "\ue000-\uf8ff"
PRIVATE = "\U000f0000-\U000ffffd"
"""Characters that stand for what a document with markup keeps (`markup.document`)."""
_BLOCKS_OF_SYMBOLS = (
    "\U0001d000-\U0001d24f\U0001f000-\U0001f1e5\U0001f200-\U0001f3fa\U0001f400-\U0001faff\U0001fb00-\U0001fbef"
    "\U000f0000-\U0010ffff"
)
"""Above U+FFFF whole blocks are symbols, with those that later versions of Unicode may put there."""
_IN_SENTENCES = "°№×÷±¬−⁄∕"
"""Signs that a sentence uses like words: 20 °C, 3 × 4."""


def _class_of(wanted: Callable[[str], bool]) -> str:
    """The wanted characters above ASCII and up to U+FFFF."""
    ranges: list[list[int]] = []
    for code in (*range(0x80, 0xD800), *range(0xE000, 0x10000)):
        if wanted(chr(code)):
            if ranges and ranges[-1][1] == code - 1:
                ranges[-1][1] = code
            else:
                ranges.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in ranges)


def _is_symbol(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("So", "Sm") and not re.match(f"[{_RAISED_SIGNS}{_IN_SENTENCES}]", character)


def _is_number(character: str) -> bool:
    return unicodedata.category(character) == "No" and unicodedata.normalize("NFKC", character) != character


SYMBOL = _class_of(_is_symbol) + _BULLETS + _PRIVATE + _BLOCKS_OF_SYMBOLS
"""Emoji, arrows, mathematical signs, boxes, bullets and private use; neither ASCII nor signs of currencies."""
MARK = _class_of(lambda character: unicodedata.category(character)[0] == "M")
"""Accents, vowel signs and the like, which belong to the letter before them."""
NUMBER = _class_of(_is_number) + _RAISED_SIGNS
"""Raised and lowered digits, fractions, circled numbers: NFKC changes what they mean."""
_CLUSTER = f"[{SYMBOL}][{MODIFIER}\u0300-\u036f\u20d0-\u20ff]*+"
EMOJI = f"(?:[{_REGIONAL}]{{1,2}}|[0-9#*]\ufe0f?\u20e3|[\U0001f3fb-\U0001f3ff]|{_CLUSTER}(?:\u200d{_CLUSTER})*+)"
"""Pattern of one symbol with all that belongs to it: flags, keycaps, skin tones, joined symbols."""

LONGEST_CLUSTER = 32
"""Most characters of a grapheme cluster. Longer ones are no text, and may be cut anywhere."""
_JOINED = re.compile(f"[{SYMBOL}{MODIFIER}]\u200d[{SYMBOL}]")
_EXTENDER = re.compile(f"[\u200c\u200d{MODIFIER}]")
_SYLLABLE = re.compile(
    "[\u1100-\u115f\ua960-\ua97c][\u1100-\u11ff\uac00-\ud7fb]|[\u1160-\u11ff\uac00-\ud7fb][\u1160-\u11ff\ud7b0-\ud7fb]"
)
"""Two letters of one Korean syllable."""
_FLAGS = re.compile(f"[{_REGIONAL}]+\\Z")


def private_characters(text: str) -> frozenset[str]:
    """The characters of `PRIVATE` that a text has. They cannot stand for anything else in it."""
    return frozenset(re.findall(f"[{PRIVATE}]", text))


def word_set(text: str) -> frozenset[str]:
    """The words of a list that is written as one text."""
    return frozenset(text.split())


def extends(character: str) -> bool:
    """Whether a character belongs to the one before it: accents, joiners, variation selectors, skin tones."""
    if character < "\u0300":
        return False
    return unicodedata.category(character)[0] == "M" or _EXTENDER.match(character) is not None


def is_border(text: str, index: int) -> bool:
    """Whether a text may be cut at an index without dividing a grapheme cluster (UAX #29, but for rare prefixes)."""
    if not 0 < index < len(text):
        return True
    before, after = text[index - 1], text[index]
    if before < "\u0300" and after < "\u0300":
        return before + after != "\r\n"
    if unicodedata.category(before) in ("Cc", "Zl", "Zp"):
        return True
    if extends(after) or _JOINED.fullmatch(text[index - 2 : index + 1]) or _SYLLABLE.match(before + after):
        return False
    if _FLAGS.match(after):
        flags = _FLAGS.search(text[max(0, index - LONGEST_CLUSTER) : index])
        return flags is None or len(flags[0]) % 2 == 0
    return True
