"""Checks that the numbers of a sentence stand in its translation, in any rendering that may be right.

Languages write numbers with other separators ("1,250.5", "1.250,5", "1 250,5"), times in 12 or 24 hours ("5 p.m.",
"17 Uhr"), and small numbers as words. So a number counts as found if its digits are there in some such way. This misses
some faults, and warns of few numbers that are right.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

_NUMBER = re.compile(r"(?<![\w])[0-9]+(?:[.,'’ \u00a0\u202f:][0-9]+)*|[0-9]+")
_DIGITS = re.compile(r"[0-9]+")
_CLOCK = re.compile(r"[ \u00a0\u202f]?(?:(?P<half>[ap])\.? ?m\b|o['’ ]?clock|uhr)", re.IGNORECASE)
"""What stands behind a time, and may say in which half of the day it is."""
_WORDS = {
    "en": "zero one two three four five six seven eight nine ten eleven twelve",
    "de": "null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf",
    "fr": "zéro un deux trois quatre cinq six sept huit neuf dix onze douze",
    "es": "cero un dos tres cuatro cinco seis siete ocho nueve diez once doce",
}
"""Language -> words of 0 to 12, or how they begin."""
_ROUND = {
    "en": {20: "twent", 30: "thirt", 40: "fort", 50: "fift", 60: "sixt", 100: "hundred", 1000: "thousand"},
    "de": {20: "zwanzig", 30: "dreißig", 40: "vierzig", 50: "fünfzig", 60: "sechzig", 100: "hundert", 1000: "tausend"},
}
_MOST_AS_WORD = 12


def missing_numbers(source: str, translation: str, target_language: str) -> list[str]:
    """The numbers of a sentence that are not found in its translation, as the sentence writes them."""
    wanted = [(number[0], list(_times(number[0], source, number.end()))) for number in _NUMBER.finditer(source)]
    if not wanted:
        return []
    found: Counter[str] = Counter()
    for match in _NUMBER.finditer(translation):
        # A number of several groups may be several numbers, such as a date.
        found.update({_digits(match.group()), *_DIGITS.findall(match.group())})
    missing, words = [], _numbers_as_words(translation.lower(), target_language)
    for number, times in wanted:
        key = next((key for key in (_digits(number), *times) if found[key]), None)
        if key is not None:
            found[key] -= 1
        elif (number.lstrip("0") or "0") not in words and not _in_parts(number, found):
            missing.append(number)
    return missing


def _digits(number: str) -> str:
    return "".join(_DIGITS.findall(number)).lstrip("0") or "0"


def _times(number: str, source: str, end: int) -> Iterator[str]:
    """The digits of a time in 12 and in 24 hours; of a full hour, with and without minutes. None of another number.

    `source` has the number before `end`.
    """
    hour, *rest = _DIGITS.findall(number)
    clock = _CLOCK.match(source, end)
    if len(hour) > 2 or len(rest) > 1 or not (clock or ":" in number):
        return
    minutes = rest[0] if rest else "00"
    half = (clock["half"] or "").lower() if clock else ""
    early, late = int(hour) % 12, int(hour) % 12 + 12
    values = {"a": (early, *((24,) if early == 0 else ())), "p": (late,)}.get(half, (early, late))
    for value in (int(hour), *values):
        yield _digits(f"{value}{minutes}")
        if not minutes.strip("0"):
            yield str(value)


def _in_parts(number: str, found: Counter[str]) -> bool:
    """Whether a number of several groups stands there in groups, such as a date in another order."""
    groups = _DIGITS.findall(number)
    return len(groups) > 1 and all(found[group] or found[group.lstrip("0") or "0"] for group in groups)


def _numbers_as_words(text: str, language: str) -> set[str]:
    """The small and round numbers that a text in small letters may have as words: all small ones, without a table."""
    language = language.split("-", maxsplit=1)[0].lower()
    small = _WORDS[language].split() if language in _WORDS else [""] * (_MOST_AS_WORD + 1)
    words = dict(enumerate(small)) | _ROUND.get(language, {})
    return {str(value) for value, word in words.items() if word in text}
