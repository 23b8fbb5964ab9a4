"""The languages of a model: listed pairs, or every source with every target."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from dragoman_service.text.language_tags import TagIndex

Pair: TypeAlias = tuple[str, str]
"""(source, target), as BCP 47 tags."""

MAX_SHOWN = 20
"""Most pairs that a message lists."""


@dataclass(frozen=True, slots=True)
class Languages:
    """What a model translates: every pair of `pairs`, and every source of `sources` into every target of `targets`
    except a language into itself.

    Tags that are asked for are compared by what they mean (`TagIndex.fits`), and returned as they are written here.
    What asks for one pair takes constant time: a model of 202 languages has 40,602 pairs.
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
    _source_index: TagIndex = field(init=False, repr=False, compare=False)
    """Of `all_sources`."""
    _target_index: TagIndex = field(init=False, repr=False, compare=False)

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
        for name, tags in (("_source_index", self.all_sources), ("_target_index", self.all_targets)):
            object.__setattr__(self, name, TagIndex(tags))

    def __reduce__(self) -> tuple[object, ...]:
        """Indexes are made again rather than pickled."""
        return Languages, (self.pairs, self.sources, self.targets)

    def __len__(self) -> int:
        """The number of pairs."""
        both = len(self._sources.keys() & self._targets.keys())
        return len(self._listed) + len(self._sources) * len(self._targets) - both

    def all_pairs(self) -> Iterator[Pair]:
        """Every pair once: first the listed ones, then those of the sets, made one by one."""
        yield from self._listed.values()
        for low, source in self._sources.items():
            yield from ((source, target) for other, target in self._targets.items() if other != low)

    def translates(self, source: str, target: str) -> bool:
        """Whether this is one of the pairs as they are written here, apart from case."""
        return self._pair(source.lower(), target.lower()) is not None

    def find(self, source: str, target: str) -> Pair | None:
        """The pair that these languages mean, as it is written here; None if the model does not translate it."""
        found = self.nearest(source, target)
        return None if found is None else found[1]

    def nearest(self, source: str, target: str) -> tuple[int, Pair] | None:
        """As `find`, with the distance of the pair: 0 if it is spelled so, apart from case."""
        exact = self._pair(source.lower(), target.lower())
        if exact is not None:
            return 0, exact
        targets = self._target_index.fits(target)
        if not targets:
            return None
        found = (
            (far + farther, pair)
            for far, one in self._source_index.fits(source)
            for farther, other in targets
            if (pair := self._pair(one.lower(), other.lower())) is not None
        )
        return min(found, key=lambda it: it[0], default=None)

    def matching(self, source: str, target: str) -> Iterator[Pair]:
        """The pairs of a source and a target, made one by one. An empty one stands for every language."""
        if source and target:
            found = self.find(source, target)
            yield from () if found is None else (found,)
        elif source:
            for low in _nearest(self._source_index, source):
                yield from self._by_source.get(low, ())
                if low in self._sources:
                    yield from ((self._sources[low], tag) for other, tag in self._targets.items() if other != low)
        elif target:
            for low in _nearest(self._target_index, target):
                yield from self._by_target.get(low, ())
                if low in self._targets:
                    yield from ((tag, self._targets[low]) for other, tag in self._sources.items() if other != low)
        else:
            yield from self.all_pairs()

    def _pair(self, low_source: str, low_target: str) -> Pair | None:
        if low_source != low_target and low_source in self._sources and low_target in self._targets:
            return self._sources[low_source], self._targets[low_target]
        return self._listed.get((low_source, low_target))

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


def _nearest(index: TagIndex, tag: str) -> list[str]:
    """The offered tags that are nearest to a tag, in lower case."""
    found = index.fits(tag)
    return [text.lower() for distance, text in found if distance == found[0][0]]
