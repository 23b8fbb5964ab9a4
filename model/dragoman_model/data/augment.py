"""Augmentation: changed copies of pairs, for kinds of text that users type and that collections of text lack.

Collections of sentences rarely have text without capitals or punctuation, and texts of several sentences. They have few
names, too: a model learns to translate "Tom", and does not learn to copy a name. Copies in which the shared names of
both sides are replaced teach it to copy them.
"""

from __future__ import annotations

import random
import re
import string
from collections.abc import Container, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

from dragoman_model.data.corpus import Pair, PairStore
from dragoman_model.data.numerals import Notation, other_numbers
from dragoman_model.recipe import Augmentation

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Indexed(Protocol[T_co]):
    """A container with a length and numbered items."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> T_co: ...


_MOST_JOINED = 3
_ENDS = ".!?…。！？"
_CAPITALISED = re.compile(r"(?<![\w'’-])[A-Z][a-z]{1,14}(?![\w'’-])")
_NOT_NAMES = frozenset(("April", "August", "September", "November"))
"""Capitalised words that several languages share, and that are not replaced like names: they have their own grammar."""
_MADE_UP_SHARE = 0.3
"""Share of the replacements that are invented names. A model that has seen only names of the corpus guesses others."""
_ADDRESS_SHARE = 0.1
"""Share of the replacements that are an address, a telephone number, a path or an identifier instead of a name."""


def augment(
    pairs: Sequence[Pair] | PairStore, languages: tuple[str, str], shares: Augmentation, seed: int
) -> Iterator[Pair]:
    """Yield the changed copies to add to `pairs`. A copy may be equal to another pair of `pairs`.

    The same seed gives the same copies. A share is the share of the pairs that are drawn for a change. Pairs that the
    change leaves unchanged (no name to replace) give no copy. Memory holds the indices of the drawn pairs, some dozens
    of bytes each, and no text.
    """
    made = _made(pairs, languages, shares, random.Random(seed))
    return (changed for pair, changed in made if changed != pair and all(changed))


def _made(
    pairs: Sequence[Pair] | PairStore, languages: tuple[str, str], shares: Augmentation, rng: random.Random
) -> Iterator[tuple[Pair, Pair]]:
    """Yield (pair, changed pair). A changed pair may be equal to the pair, or have an empty side."""
    for source, target in _draw(pairs, shares.lower, rng):
        yield (source, target), (source.lower(), target)
    for source, target in _draw(pairs, shares.unpunctuated, rng):
        yield (source, target), (source.rstrip(_ENDS), target.rstrip(_ENDS))
    for first in _draw(range(len(pairs)), shares.joined, rng):
        last = min(first + rng.randint(2, _MOST_JOINED), len(pairs))
        several = [pairs[index] for index in range(first, last)]  # neighbours often come from the same text
        yield several[0], (" ".join(source for source, _ in several), " ".join(target for _, target in several))
    if shares.swapped:
        names = _names(pairs)
        known = frozenset(names)
        for pair in _draw(pairs, shares.swapped, rng):
            yield pair, _swapped(pair, names, known, rng)
    if shares.numbers:
        notations = Notation.of(languages[0]), Notation.of(languages[1])
        for pair in (pair for pair in pairs if any(map(str.isdigit, pair[0]))):
            for _ in range(int(shares.numbers + rng.random())):
                yield pair, other_numbers(pair, notations, rng)


def _draw(values: _Indexed[T], share: float, rng: random.Random) -> Iterator[T]:
    """A random share of the values, each at most once. Indices are drawn at the call, and values read one by one."""
    drawn = rng.sample(range(len(values)), round(share * len(values)))
    return (values[index] for index in drawn)


def _names(pairs: Iterable[Pair]) -> list[str]:
    """Probable names, sorted: capitalised words that both sides of a pair share, and that do not begin its source."""
    found = {word for pair in pairs for word in _shared(_CAPITALISED, pair) if not pair[0].startswith(word)}
    return sorted(found - _NOT_NAMES)


def _swapped(pair: Pair, names: Sequence[str], known: Container[str], rng: random.Random) -> Pair:
    """The pair with every shared name replaced. If it has none, it is returned unchanged."""
    source, target = pair
    for name in _shared(_CAPITALISED, pair):
        if name in known:
            source, target = _replace(source, target, name, _random_name(names, rng))
    return source, target


def _shared(pattern: re.Pattern[str], pair: Pair) -> list[str]:
    """The matches of `pattern` in the source that occur exactly once, as a whole word, in each side."""
    source, target = pair
    found = []
    for text in dict.fromkeys(pattern.findall(source)):
        word = rf"(?<!\w){re.escape(text)}(?!\w)"
        if len(re.findall(word, source)) == len(re.findall(word, target)) == 1:
            found.append(text)
    return found


def _replace(source: str, target: str, old: str, new: str) -> Pair:
    word = rf"(?<!\w){re.escape(old)}(?!\w)"
    return tuple(re.sub(word, lambda _: new, text) for text in (source, target))  # type: ignore[return-value]


def _random_name(names: Sequence[str], rng: random.Random) -> str:
    kind = rng.random()
    if kind < _ADDRESS_SHARE:
        return _random_address(rng)
    if kind < _ADDRESS_SHARE + _MADE_UP_SHARE:
        return _made_up(rng).capitalize()
    return rng.choice(names)


def _random_address(rng: random.Random) -> str:
    """A random address, telephone number, path or identifier: text that a translation copies letter by letter."""
    one, two = _made_up(rng), _made_up(rng)
    return rng.choice((
        f"https://{one}.{rng.choice(('com', 'org', 'de', 'net', 'io'))}/{two}",
        f"www.{one}-{two}.{rng.choice(('com', 'org', 'de'))}",
        f"{one}@{two}.{rng.choice(('com', 'org', 'de'))}",
        f"{one}.{_made_up(rng)}@{two}.{rng.choice(('com', 'org', 'net'))}",
        _random_telephone(rng),
        f"{one}_{two}",
        f"{one}.{two}()",
        f"--{one}-{two}",
        f"/{one}/{two}.{rng.choice(('py', 'txt', 'conf', 'json'))}",
        f"{one.upper()}_{rng.randint(1, 99)}",
    ))  # fmt: skip


def _random_telephone(rng: random.Random) -> str:
    """A random telephone number: groups of digits, with or without a country code."""
    groups = [
        str(rng.randint(10 ** (length - 1), 10**length - 1)) for length in rng.choices((2, 3, 4), k=rng.randint(2, 4))
    ]
    return rng.choice(("", f"+{rng.randint(1, 99)} ", "0")) + rng.choice((" ", " ", "-")).join(groups)


def _made_up(rng: random.Random) -> str:
    """A random word of pronounceable syllables, in lower case."""
    syllables = (rng.choice(string.ascii_lowercase) + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))
    return "".join(syllables) + rng.choice(("", "n", "r", "s", "l", "ck", "tt", "m"))
