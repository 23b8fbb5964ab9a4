"""Augmentation of numbers: replaces the numbers and times of day that both sides of a pair share by random ones.

Collections of sentences have few numbers, and always the same. A model that has read "at 2:30" a hundred times, and
never "at 10:45", does not learn to copy a time. The new numbers are written in the notation of each language. The
Unicode CLDR (babel) has the separators: 1,250.5 in English is 1.250,5 in German and 1 250,5 in French.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass
from decimal import Decimal

from babel import Locale, UnknownLocaleError
from babel.numbers import format_decimal, get_group_symbol

from dragoman_model.data.corpus import Pair

_BEFORE, _AFTER = r"(?<![\w.,:/+-])(?<!\d\s)", r"(?![\w:/-]|[.,]\d|\s\d{3}(?!\d))"
"""Context of a number that is not a part of a longer number, a date, a version or a word."""
_INTEGER = re.compile(_BEFORE + r"\d{1,6}" + _AFTER)
_TIME = re.compile(_BEFORE + r"(\d{1,2}):([0-5]\d)" + _AFTER)
_ANY_GROUP = r"[.,’'\u00a0\u202f ]?"
"""A separator of digit groups in any language, or none."""
_GROUPED_SHARE = 0.2
"""Share of new integers that have groups of digits."""
_DECIMAL_SHARE = 0.15
"""Share of new numbers that have decimals."""
_OTHER_LENGTH_SHARE = 0.2
"""Share of the other new integers whose number of digits is drawn, too."""


@dataclass(frozen=True, slots=True)
class Notation:
    """The notation of numbers in a language."""

    locale: Locale | None
    """None for a language that babel does not know."""
    grouped: re.Pattern[str]
    """Matches a number with the group separators of this language."""

    @classmethod
    def of(cls, language: str) -> Notation:
        """The notation for a language code, such as `de` or `zh-Hant`."""
        try:
            locale = Locale.parse(language, sep="-")
        except (UnknownLocaleError, ValueError):
            return cls(None, re.compile(r"(?!)"))
        symbol = get_group_symbol(locale)
        group = r"\s" if symbol.isspace() else re.escape(symbol)  # texts have other spaces than the CLDR
        return cls(locale, re.compile(rf"{_BEFORE}\d{{1,3}}(?:{group}\d{{3}})+{_AFTER}"))

    def write(self, number: Decimal) -> str:
        """Write a number with grouped digits and with all of its decimals."""
        places = -int(number.as_tuple().exponent)
        return format_decimal(number, "#,##0." + "0" * places if places else "#,##0", self.locale)


Notations = tuple[Notation, Notation]


def other_numbers(pair: Pair, notations: Notations, rng: random.Random) -> Pair:
    """Replace every number and time of day that occurs exactly once on each side. The pair may be unchanged.

    Args:
        pair: Source and target.
        notations: Notations of both languages. If one is unknown, the new numbers have no separators.
        rng: The random number generator.
    """
    source = pair[0]
    for hour, minute in _TIME.findall(source):
        new = _other_time(int(hour), rng)
        pair = _replaced(pair, rf"{hour}([:.]){minute}", (new, new))
    for old in notations[0].grouped.findall(source):
        digits = re.sub(r"\D", "", old)
        number = Decimal(rng.randint(10 ** (len(digits) - 1), 10 ** len(digits) - 1))
        pair = _replaced(pair, _ANY_GROUP.join(_thousands(digits)), _written(number, notations))
    for old in dict.fromkeys(_INTEGER.findall(source)):
        if old not in ("0", "1", "2"):  # the grammar of the sentence depends on them
            pair = _replaced(pair, old, _other_integer(old, pair, notations, rng))
    return pair


def _replaced(pair: Pair, pattern: str, new: tuple[str, str]) -> Pair:
    """Replace the match of `pattern` on each side by `new`. The pair is unchanged unless each side has one match."""
    number = re.compile(_BEFORE + pattern + _AFTER)
    if any(len(number.findall(text)) != 1 for text in pair):
        return pair
    return number.sub(new[0], pair[0]), number.sub(new[1], pair[1])


def _other_time(hour: int, rng: random.Random) -> str:
    """A random time, as a template for `re.sub` that keeps the separator.

    An hour up to 12 remains one up to 12, because words such as "in the morning" may follow.
    """
    new_hour = rng.randint(1, 12) if hour <= 12 else rng.randint(13, 23)
    return rf"{new_hour}\g<1>{rng.choice((15, 30, 45, rng.randint(0, 59))):02}"


def _thousands(digits: str) -> list[str]:
    """The groups of three digits: "1250000" -> "1", "250", "000"."""
    first = len(digits) % 3
    return [digits[:first]] * bool(first) + [digits[at : at + 3] for at in range(first, len(digits), 3)]


def _other_integer(old: str, pair: Pair, notations: Notations, rng: random.Random) -> tuple[str, str]:
    if any(re.search(rf"{_BEFORE}{old}\.\s?\w", text) for text in pair):  # "am 22. Juli": most likely a day
        return (str(rng.randint(3, 31)),) * 2
    if 1000 <= int(old) <= 2100:  # perhaps a year, whose digits are never grouped
        return (str(rng.randint(1000, 2100)),) * 2
    known = all(notation.locale is not None for notation in notations)
    kind = rng.random() if known else 1.0
    if kind < _GROUPED_SHARE:
        return _written(Decimal(rng.randint(1000, 10 ** rng.randint(4, 7))), notations)
    if kind < _GROUPED_SHARE + _DECIMAL_SHARE:
        places = rng.randint(1, 2)
        return _written(Decimal(rng.randint(10**places, 10 ** (places + 3))).scaleb(-places), notations)
    digits = rng.randint(1, 5) if rng.random() < _OTHER_LENGTH_SHARE else len(old)
    return (str(rng.randint(max(3, 10 ** (digits - 1)), 10**digits - 1)),) * 2


def _written(number: Decimal, notations: Notations) -> tuple[str, str]:
    """A number in the notations of both languages, or without separators on both sides if a language is unknown."""
    if any(notation.locale is None for notation in notations):
        return (str(number),) * 2
    return notations[0].write(number), notations[1].write(number)
