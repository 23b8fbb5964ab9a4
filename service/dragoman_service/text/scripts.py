"""The scripts of languages, to detect text of another language."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

_ASCII_NOT_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


def _languages(codes: str, *scripts: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(codes.split(), scripts)


SCRIPTS = {
    **_languages(
        "af ca cs cy da de en eo es et eu fi fil fo fr fy ga gd gl gn ha haw hr ht hu id ig is it jv la lb ln lt lv mg "
        "mi mt nb nl nn no ny oc om pl pt qu rm ro rw sk sl sm sn so sq st su sv sw tk tl tn to tr ts vi wo xh yo zu",
        "LATIN",
    ),
    **_languages("be bg ce cv ky mk os ru tt uk", "CYRILLIC"),
    **_languages("az bs kk ku sh sr tg uz", "LATIN", "CYRILLIC", "ARABIC"),
    **_languages("ar fa ps ug ur", "ARABIC"),
    **_languages("ms", "LATIN", "ARABIC"),
    **_languages("pa", "GURMUKHI", "ARABIC"),
    **_languages("sd", "ARABIC", "DEVANAGARI"),
    **_languages("he yi", "HEBREW"),
    **_languages("hi mr ne sa", "DEVANAGARI"),
    **_languages("as bn", "BENGALI"),
    **_languages("am ti", "ETHIOPIC"),
    **_languages("mn", "CYRILLIC", "MONGOLIAN"),
    **_languages("zh", "CJK"),
    **_languages("ja", "HIRAGANA", "KATAKANA", "CJK"),
    **_languages("ko", "HANGUL", "CJK"),
    **_languages("bo dz", "TIBETAN"),
    "dv": ("THAANA",),
    "el": ("GREEK",),
    "gu": ("GUJARATI",),
    "hy": ("ARMENIAN",),
    "ka": ("GEORGIAN",),
    "km": ("KHMER",),
    "kn": ("KANNADA",),
    "lo": ("LAO",),
    "ml": ("MALAYALAM",),
    "my": ("MYANMAR",),
    "or": ("ORIYA",),
    "si": ("SINHALA",),
    "ta": ("TAMIL",),
    "te": ("TELUGU",),
    "th": ("THAI",),
}
"""ISO 639 code -> scripts of the language. A script is the first word of the Unicode names of its letters."""


def script_share(text: str, language: str) -> float:
    """The share of the letters of `text` that belong to a script of `language`. It is 1 if there are no letters.

    Args:
        text: Any text.
        language: ISO 639 code. What follows a hyphen or an underscore, such as a region, is ignored. The share is 1 for
            a language that is not in `SCRIPTS`.
    """
    scripts = SCRIPTS.get(re.split("[-_]", language, maxsplit=1)[0].lower())
    if scripts is None:
        return 1.0
    num_ascii = len(text.encode("ascii", "ignore").translate(None, _ASCII_NOT_LETTERS))
    others = [] if text.isascii() else [character for character in _NOT_ASCII.findall(text) if character.isalpha()]
    if not num_ascii and not others:
        return 1.0
    num_own = num_ascii * ("LATIN" in scripts) + sum(script_of(letter) in scripts for letter in others)
    return num_own / (num_ascii + len(others))


@lru_cache(maxsize=65536)
def script_of(character: str) -> str:
    """The first word of the Unicode name of a character, which of a letter is its script, as in `SCRIPTS`."""
    return unicodedata.name(character, "UNKNOWN").split(" ", 1)[0]
