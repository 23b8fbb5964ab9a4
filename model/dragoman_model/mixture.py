"""The corpora of a recipe as they are learned from: cleaned, added to, weighted."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman_model.augment import augment
from dragoman_model.corpus import CleaningReport, Pair, clean_pairs, held_out_texts, reasons
from dragoman_model.markdown import markdown_table
from dragoman_model.recipe import Recipe
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Part:
    """A corpus, ready."""

    report: CleaningReport
    languages: tuple[str, str]
    """Of source and target."""
    weight: float
    """How often each pair is seen in an epoch."""
    pairs: list[Pair]
    """Those kept, and behind them those that augmentation made."""
    num_added: int
    """The latter."""

    @property
    def pairs_per_epoch(self) -> float:
        """On average."""
        return self.weight * len(self.pairs)

    def summary(self) -> dict[str, Any]:
        """For whoever wants to know later what a model has learned from."""
        counts = {"kept": self.report.kept, "dropped": dict(self.report.dropped), "added": self.num_added}
        languages = "-".join(self.languages)
        return {"corpus": self.report.corpus, "languages": languages, "weight": self.weight, **counts}


def read_parts(recipe: Recipe, folder: Path) -> Iterator[Part]:
    """Clean the corpora of a recipe, one after the other, and add to each.

    Args:
        recipe: Names them.
        folder: What their paths are relative to.

    Raises:
        InvalidInput: a corpus cannot be read, or nothing is left of it.
    """
    data, seed = recipe.data, recipe.training.seed
    held_out = held_out_texts(data, folder)
    for corpus in data.train:
        languages = data.languages(corpus)
        kept, report = clean_pairs(corpus, folder, data.cleaning, languages, seed, held_out)
        if not kept:
            raise InvalidInput("data.train", corpus.name, f"a corpus with usable pairs ({report})")
        added = augment(kept, languages, data.augmentation, seed)
        yield Part(report, languages, corpus.weight, kept + added, len(added))


def one_epoch(parts: Sequence[Part], seed: int) -> Iterator[tuple[Pair, str]]:
    """Pairs and the names of their corpora, each as often as its weight says, in random order."""
    rng = random.Random(seed)
    drawn = [(part, pair) for part in parts for pair in _weighted(part.pairs, part.weight, rng)]
    rng.shuffle(drawn)
    for part, pair in drawn:
        yield pair, part.report.corpus


def natural_texts(parts: Iterable[Part], seed: int) -> list[str]:
    """Both sides of the pairs as they were found, each as often as its weight says: what a vocabulary is learned from.

    Augmentation is left out: capitals and made-up names would take subwords from the words that people use.
    """
    rng = random.Random(seed)
    found = ((part.pairs[: len(part.pairs) - part.num_added], part.weight) for part in parts)
    return [text for pairs, weight in found for pair in _weighted(pairs, weight, rng) for text in pair]


def _weighted(pairs: Iterable[Pair], weight: float, rng: random.Random) -> Iterator[Pair]:
    """Each pair as often as `weight` says; its fraction is the probability of once more."""
    for pair in pairs:
        for _ in range(int(weight + rng.random())):
            yield pair


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
    """A Markdown table of what was kept and dropped, and what each corpus is of an epoch."""
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
