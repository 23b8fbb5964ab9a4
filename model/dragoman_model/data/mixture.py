"""The training text of a recipe: its corpora, cleaned, augmented and weighted."""

from __future__ import annotations

import random
from array import array
from bisect import bisect
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dragoman_model.data.augment import augment
from dragoman_model.data.corpus import (
    CleaningReport,
    Pair,
    PairList,
    PairStore,
    clean_together,
    held_out_texts,
    reasons,
)
from dragoman_model.markdown import markdown_table
from dragoman_model.recipe import Corpus, Recipe
from dragoman_service.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Part:
    """A corpus after cleaning and augmentation."""

    report: CleaningReport
    languages: tuple[str, str]
    """Source and target language."""
    weight: float
    """How often each pair occurs in an epoch."""
    pairs: PairStore
    """The kept pairs, then the pairs added by augmentation."""
    num_added: int
    """The number of pairs added by augmentation."""

    @property
    def pairs_per_epoch(self) -> float:
        """The average number of pairs of this corpus in an epoch."""
        return self.weight * len(self.pairs)

    def summary(self) -> dict[str, Any]:
        """Name, languages, weight and counts, JSON-ready. It is stored with the run and the model."""
        counts = {"kept": self.report.kept, "dropped": dict(self.report.dropped), "added": self.num_added}
        languages = "-".join(self.languages)
        return {"corpus": self.report.corpus, "languages": languages, "weight": self.weight, **counts}


def read_parts(recipe: Recipe, folder: Path, new_store: Callable[[], PairStore] = PairList) -> Iterator[Part]:
    """Clean and augment the corpora of a recipe. A file that several corpora name is read once.

    Args:
        recipe: The recipe.
        folder: The base of the recipe's relative paths.
        new_store: Makes the store of the pairs of one corpus. With stores in files, memory holds no text except
            `held_out_texts`. Augmentation and limits need some dozens of bytes per pair, for one corpus at a time.

    Raises:
        InvalidInput: a corpus cannot be read, or cleaning drops all of its pairs.
    """
    data, seed = recipe.data, recipe.training.seed
    held_out = held_out_texts(data, folder)
    cleaned: dict[int, tuple[PairStore, CleaningReport]] = {}
    for index, corpus in enumerate(data.train):
        if index not in cleaned:
            of_file = [i for i, other in enumerate(data.train) if _files(other) == _files(corpus)]
            stores = [(data.train[i], data.languages(data.train[i]), new_store()) for i in of_file]
            reports = clean_together(stores, folder, data.cleaning, seed, held_out)
            for i, (_, _, store), report in zip(of_file, stores, reports, strict=True):
                cleaned[i] = store, report
        kept, report = cleaned.pop(index)
        if not len(kept):
            raise InvalidInput("data.train", corpus.name, f"a corpus with usable pairs ({report})")
        languages = data.languages(corpus)
        if data.augmentation.adds_anything:
            made = new_store()
            made.extend(augment(kept, languages, data.augmentation, seed))
            _add(kept, made)
            made.discard()
        yield Part(report, languages, corpus.weight, kept, len(kept) - report.kept)


def _add(kept: PairStore, made: PairStore) -> None:
    """Add the pairs of `made` that are not equal to a pair of `kept`."""
    count = len(kept)
    kept.extend(made)
    repeats = kept.repeats(count)
    repeats[:count] = False
    if repeats.any():
        kept.keep_only(np.flatnonzero(~repeats))


def _files(corpus: Corpus) -> tuple[str, str | None]:
    return corpus.path, corpus.target_path


def one_epoch(parts: Sequence[Part], seed: int) -> Iterator[tuple[Pair, str]]:
    """The pairs of one epoch in random order, each with the name of its corpus, as often as its weight says.

    It takes 8 bytes of memory per pair.
    """
    rng = random.Random(seed)
    first = list(accumulate((len(part.pairs) for part in parts), initial=0))
    drawn = array("q")
    for part, start in zip(parts, first, strict=False):
        drawn.extend(_weighted(range(start, start + len(part.pairs)), part.weight, rng))
    rng.shuffle(drawn)
    for place in drawn:
        number = bisect(first, place) - 1
        yield parts[number].pairs[place - first[number]], parts[number].report.corpus


def natural_texts(parts: Sequence[Part], seed: int, limit: int | None = None) -> list[str]:
    """The text that the vocabulary is learned from: both sides of the kept pairs, as often as their weights say.

    Pairs added by augmentation are left out, because invented names would take subwords from real words. If there are
    more than `limit` texts, `limit` of them are drawn, and only these are held in memory.
    """

    def drawn() -> Iterator[tuple[Part, int]]:
        rng = random.Random(seed)
        for part in parts:
            for index in _weighted(range(len(part.pairs) - part.num_added), part.weight, rng):
                yield part, index

    count = 2 * sum(1 for _ in drawn())
    if limit is None or count <= limit:
        return [text for part, index in drawn() for text in part.pairs[index]]
    place = {chosen: place for place, chosen in enumerate(random.Random(seed).sample(range(count), limit))}
    texts = [""] * limit
    for number, (part, index) in enumerate(drawn()):
        for side in (0, 1):
            if (at := place.get(2 * number + side)) is not None:
                texts[at] = part.pairs[index][side]
    return texts


def _weighted(values: Iterable[T], weight: float, rng: random.Random) -> Iterator[T]:
    """Each value as often as `weight` says. The fraction of `weight` is the probability of one more time."""
    for value in values:
        for _ in range(int(weight + rng.random())):
            yield value


COLUMNS = (
    "corpus",
    "languages",
    "read",
    "kept",
    "added",
    "weight",
    "pairs an epoch",
    "share of words",
    "words a side",
    "dropped",
)


def table(parts: Sequence[Part]) -> str:
    """A Markdown table: the kept, added and dropped pairs of each corpus, and its share of an epoch."""
    words = [sum(len(side.split()) for pair in part.pairs for side in pair) * part.weight for part in parts]
    rows = [_row(part, weighted, sum(words)) for part, weighted in zip(parts, words, strict=True)]
    total = f"{sum(part.pairs_per_epoch for part in parts):,.0f}"
    rows.append(["all", "", "", "", "", "", total, "100.0%", f"{sum(words) / 2:,.0f}", ""])
    return markdown_table(COLUMNS, rows)


def _row(part: Part, weighted_words: float, all_words: float) -> list[str]:
    report = part.report
    read = report.kept + report.dropped.total()
    counts = [f"{count:,}" for count in (read, report.kept, part.num_added)]
    share = f"{weighted_words / all_words:.1%}"
    epoch = f"{part.pairs_per_epoch:,.0f}"
    return [
        report.corpus,
        "-".join(part.languages),
        *counts,
        f"{part.weight:g}",
        epoch,
        share,
        f"{weighted_words / 2:,.0f}",
        reasons(report.dropped),
    ]
