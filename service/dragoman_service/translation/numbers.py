"""Checks that the numbers of a sentence stand in its translation, in any rendering that may be right.

Languages write numbers with other separators ("1,250.5", "1.250,5", "1 250,5"), times in 12 or 24 hours ("5 p.m.",
"17 Uhr"), and small numbers as words. So a number counts as found if its digits are there in some such way. This misses
some faults, and warns of few numbers that are right.
"""

from __future__ import annotations

import re
from collections import Counter

_NUMBER = re.compile(r"(?<![\w])[0-9]+(?:[.,'’ \u00a0\u202f:][0-9]+)*(?![\w])|[0-9]+")
_DIGITS = re.compile(r"[0-9]+")
_AFTERNOON = re.compile(r"[ \u00a0]?(?:p\.? ?m\b|uhr (?:nach)?mittag|uhr abends)", re.IGNORECASE)
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
    wanted = [(match.group(), _AFTERNOON.match(source, match.end())) for match in _NUMBER.finditer(source)]
    if not wanted:
        return []
    found: Counter[str] = Counter()
    for match in _NUMBER.finditer(translation):
        # A number of several groups may be several numbers, such as a date.
        found.update({_digits(match.group()), *_DIGITS.findall(match.group())})
    missing, words = [], translation.lower()
    for number, afternoon in wanted:
        keys = [_digits(number), *_other_hours(number, is_afternoon=afternoon is not None)]
        key = next((key for key in keys if found[key]), None)
        if key is not None:
            found[key] -= 1
        elif not _is_word(number, words, target_language) and not _in_parts(number, found):
            missing.append(number)
    return missing


def _digits(number: str) -> str:
    return "".join(_DIGITS.findall(number)).lstrip("0") or "0"


def _other_hours(number: str, *, is_afternoon: bool) -> list[str]:
    """A time in 24 hours for one in 12, and the other way round."""
    hour, *rest = _DIGITS.findall(number)
    if len(hour) > 2 or len(rest) > 1:
        return []
    minutes, value = "".join(rest), int(hour)
    if is_afternoon:
        return [f"{value % 12 + 12}{minutes}", *([f"{value % 12 + 12}"] if not minutes.strip("0") else [])]
    return [f"{value - 12}{minutes}"] if 12 < value < 24 and rest else []


def _in_parts(number: str, found: Counter[str]) -> bool:
    """Whether a number of several groups stands there in groups, such as a date in another order."""
    groups = _DIGITS.findall(number)
    return len(groups) > 1 and all(found[group] or found[group.lstrip("0") or "0"] for group in groups)


def _is_word(number: str, text: str, language: str) -> bool:
    """Whether a small or round number may stand in a text in small letters as a word.

    In a language without a table it always may.
    """
    language = language.split("-", maxsplit=1)[0].lower()
    if not number.isdigit():
        return False
    value = int(number)
    if value <= _MOST_AS_WORD:
        return language not in _WORDS or _WORDS[language].split()[value] in text
    return _ROUND.get(language, {}).get(value, "\0") in text
