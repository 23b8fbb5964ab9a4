"""Numbers and times of day that both sides of a pair have, replaced by others, each written as its language writes it.

Collections of sentences have few, and always the same: a model that has read "at 2:30" a hundred times, and never
"at 10:45", does not learn to copy one. How a language groups digits and marks decimals is in the Unicode CLDR (babel):
1,250.5 in English is 1.250,5 in German and 1 250,5 in French.
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
"""Around a number that is no part of a longer one, nor of a date, a version or a word."""
_INTEGER = re.compile(_BEFORE + r"\d{1,6}" + _AFTER)
_TIME = re.compile(_BEFORE + r"(\d{1,2}):([0-5]\d)" + _AFTER)
_ANY_GROUP = r"[.,’'\u00a0\u202f ]?"
_GROUPED_SHARE = 0.2
_DECIMAL_SHARE = 0.15
_OTHER_LENGTH_SHARE = 0.2


@dataclass(frozen=True, slots=True)
class Notation:
    """How a language writes numbers."""

    locale: Locale | None
    """None of a language that babel does not know."""
    grouped: re.Pattern[str]
    """Thousands, with what stands between them in this language."""

    @classmethod
    def of(cls, language: str) -> Notation:
        """Of a code such as `de` or `zh-Hant`."""
        try:
            locale = Locale.parse(language, sep="-")
        except (UnknownLocaleError, ValueError):
            return cls(None, re.compile(r"(?!)"))
        symbol = get_group_symbol(locale)
        group = r"\s" if symbol.isspace() else re.escape(symbol)  # text has spaces of any width
        return cls(locale, re.compile(rf"{_BEFORE}\d{{1,3}}(?:{group}\d{{3}})+{_AFTER}"))

    def write(self, number: Decimal) -> str:
        """With grouped digits and all the decimals that it has."""
        places = -int(number.as_tuple().exponent)
        return format_decimal(number, "#,##0." + "0" * places if places else "#,##0", self.locale)


Notations = tuple[Notation, Notation]


def other_numbers(pair: Pair, notations: Notations, rng: random.Random) -> Pair:
    """Replace every number and time of day that both sides have, once each; the pair itself if they share none.

    Args:
        pair: Source and target.
        notations: Of the languages of both. Unless both are known, there are no numbers with separators.
        rng: Draws the new ones.
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
        if old not in ("0", "1", "2"):  # they have grammars of their own
            pair = _replaced(pair, old, _other_integer(old, pair, notations, rng))
    return pair


def _replaced(pair: Pair, pattern: str, new: tuple[str, str]) -> Pair:
    """With the new in place of what matches, if that is one place on each side."""
    there = re.compile(_BEFORE + pattern + _AFTER)
    if any(len(there.findall(text)) != 1 for text in pair):
        return pair
    return there.sub(new[0], pair[0]), there.sub(new[1], pair[1])


def _other_time(hour: int, rng: random.Random) -> str:
    """A template: the separator is the one that was there. Twelve hours stay twelve: "in the morning" may follow."""
    new_hour = rng.randint(1, 12) if hour <= 12 else rng.randint(13, 23)
    return rf"{new_hour}\g<1>{rng.choice((15, 30, 45, rng.randint(0, 59))):02}"


def _thousands(digits: str) -> list[str]:
    """ "1250000" as 1, 250, 000."""
    first = len(digits) % 3
    return [digits[:first]] * bool(first) + [digits[at : at + 3] for at in range(first, len(digits), 3)]


def _other_integer(old: str, pair: Pair, notations: Notations, rng: random.Random) -> tuple[str, str]:
    if any(re.search(rf"{_BEFORE}{old}\.\s?\w", text) for text in pair):  # "am 22. Juli": most likely a day
        return (str(rng.randint(3, 31)),) * 2
    if 1000 <= int(old) <= 2100:  # a year, perhaps, which is never grouped
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
    """As each language writes it; the same on both sides if one of them is unknown."""
    if any(notation.locale is None for notation in notations):
        return (str(number),) * 2
    return notations[0].write(number), notations[1].write(number)
