"""The languages of a model: listed pairs, or every source with every target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Pair: TypeAlias = tuple[str, str]
"""(source, target), as BCP 47 tags."""

MAX_SHOWN = 20
"""Most pairs that a message lists."""


@dataclass(frozen=True, slots=True)
class Languages:
    """What a model translates: every pair of `pairs`, and every source of `sources` into every target of `targets`
    except a language into itself.

    Tags are compared without regard to case, and returned as they are written here. What asks for one pair takes
    constant time: a model of 202 languages has 40,602 pairs.
    """

    pairs: tuple[Pair, ...] = ()
    sources: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    _sources: dict[str, str] = field(init=False, repr=False, compare=False)
    """Tag in lower case -> tag, of `sources`."""
    _targets: dict[str, str] = field(init=False, repr=False, compare=False)
    _listed: dict[Pair, Pair] = field(init=False, repr=False, compare=False)
    """Pair in lower case -> pair, of those in `pairs` that the sets do not have."""
    _by_source: dict[str, list[Pair]] = field(init=False, repr=False, compare=False)
    """Source in lower case -> its listed pairs."""
    _by_target: dict[str, list[Pair]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        sources, targets = _by_lower_case(self.sources), _by_lower_case(self.targets)
        listed: dict[Pair, Pair] = {}
        for pair in self.pairs:
            low = (pair[0].lower(), pair[1].lower())
            if low[0] == low[1] or low[0] not in sources or low[1] not in targets:
                listed.setdefault(low, pair)
        by_source: dict[str, list[Pair]] = {}
        by_target: dict[str, list[Pair]] = {}
        for (source, target), pair in listed.items():
            by_source.setdefault(source, []).append(pair)
            by_target.setdefault(target, []).append(pair)
        names = ("_sources", "_targets", "_listed", "_by_source", "_by_target")
        for name, value in zip(names, (sources, targets, listed, by_source, by_target), strict=True):
            object.__setattr__(self, name, value)

    def __len__(self) -> int:
        """The number of pairs."""
        both = len(self._sources.keys() & self._targets.keys())
        return len(self._listed) + len(self._sources) * len(self._targets) - both

    def all_pairs(self) -> Iterator[Pair]:
        """Every pair once: first the listed ones, then those of the sets, made one by one."""
        yield from self._listed.values()
        for low, source in self._sources.items():
            yield from ((source, target) for other, target in self._targets.items() if other != low)

    def find(self, source: str, target: str) -> Pair | None:
        """The pair of these languages, as it is written here; None if the model does not translate it."""
        low = (source.lower(), target.lower())
        if low[0] != low[1] and low[0] in self._sources and low[1] in self._targets:
            return self._sources[low[0]], self._targets[low[1]]
        return self._listed.get(low)

    def translates(self, source: str, target: str) -> bool:
        """Whether the model translates from one language into the other."""
        return self.find(source, target) is not None

    def matching(self, source: str, target: str) -> Iterator[Pair]:
        """The pairs of a source and a target, made one by one. An empty one stands for every language."""
        if source and target:
            found = self.find(source, target)
            yield from () if found is None else (found,)
        elif source:
            low = source.lower()
            yield from self._by_source.get(low, ())
            if low in self._sources:
                yield from ((self._sources[low], tag) for other, tag in self._targets.items() if other != low)
        elif target:
            low = target.lower()
            yield from self._by_target.get(low, ())
            if low in self._targets:
                yield from ((tag, self._targets[low]) for other, tag in self._sources.items() if other != low)
        else:
            yield from self.all_pairs()

    def targets_of(self, source: str) -> tuple[str, ...]:
        """The languages into which the model translates a language."""
        return tuple(target for _, target in self.matching(source, "")) if source else ()

    @property
    def all_sources(self) -> tuple[str, ...]:
        """Every language from which the model translates, once."""
        return tuple(_by_lower_case([*(source for source, _ in self._listed.values()), *self.sources]).values())

    @property
    def all_targets(self) -> tuple[str, ...]:
        """Every language into which the model translates, once."""
        return tuple(_by_lower_case([*(target for _, target in self._listed.values()), *self.targets]).values())

    @property
    def summary(self) -> str:
        """The pairs; if they are more than `MAX_SHOWN`, how many they are and of how many languages."""
        if len(self) <= MAX_SHOWN:
            return ", ".join(f"{source} to {target}" for source, target in self.all_pairs())
        languages = _by_lower_case([*self.all_sources, *self.all_targets])
        return f"{len(self)} pairs of {len(languages)} languages"

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON-ready values."""
        return {"pairs": self.pairs, "sources": self.sources, "targets": self.targets}


def _by_lower_case(tags: Iterable[str]) -> dict[str, str]:
    """Tag in lower case -> tag, as it is written first."""
    found: dict[str, str] = {}
    for tag in tags:
        found.setdefault(tag.lower(), tag)
    return found
