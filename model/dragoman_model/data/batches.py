"""Tokenised pairs, and the plan of an epoch: batches of pairs of similar length, in random order."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import torch
from torch import Tensor

from dragoman_model.data.corpus import Pair
from dragoman_model.data.tokenized import Tokenized, flatten
from dragoman_model.transformer import PAD_ID
from dragoman_service.bundle.tokenizer import ANY_LANGUAGE, Tokenizer

BUCKET_POOL = 1000
"""Number of batches whose pairs are sorted by length together. Padding was 13 % of the multiplications of the recipe
en-de with 100 batches, sorted by target first. It is 1.3 % with 1,000, sorted by source first."""

_DRAWN_TOGETHER = 1 << 16
"""Number of pairs whose weights or lengths are read into memory at a time."""


@dataclass(frozen=True, slots=True)
class Batch:
    """The padded token ids of some pairs."""

    source: Tensor
    """[B, S], each row up to the end of the sentence."""
    target: Tensor
    """[B, T + 1], each row from the begin token to the end of the sentence. All but the last column are the decoder's
    input, all but the first its expected output."""

    @property
    def num_tokens(self) -> int:
        """Number of target tokens to predict, without padding."""
        return int((self.target[:, 1:] != PAD_ID).sum())


def tokenize(
    pairs: Sequence[Pair], tokenizer: Tokenizer, max_tokens: int, target_languages: Sequence[str]
) -> Tokenized:
    """Tokenise pairs. Pairs with an empty side, or with more than `max_tokens` on either side, are left out.

    `max_tokens` includes the tag and the end of the sentence. `target_languages` has the language of each pair.
    """
    sources: list[Sequence[int]] = []
    targets: list[Sequence[int]] = []
    kept: list[int] = []
    encoded = tokenizer.encode_batch([text for pair in pairs for text in pair])
    for index, language in enumerate(target_languages):
        source_ids, target_ids = encoded[2 * index], encoded[2 * index + 1]
        longest = max(len(source_ids) + tokenizer.source_overhead, len(target_ids) + 1)
        if source_ids and target_ids and longest <= max_tokens:
            sources.append(tokenizer.source(source_ids, ANY_LANGUAGE, language))
            targets.append([tokenizer.begin_id, *target_ids, tokenizer.end_id])
            kept.append(index)
    return Tokenized(np.array(kept, dtype=np.int64), *flatten(sources), *flatten(targets))


class TokenizedCorpus:
    """The token ids of many pairs, in flat arrays. The arrays may be memory-mapped files."""

    def __init__(
        self, pairs: Sequence[Pair], tokenizer: Tokenizer, max_tokens: int, target_languages: Iterable[str]
    ) -> None:
        """Tokenise pairs as `tokenize` does. `kept` has the indices of the pairs that are not left out."""
        languages = list(target_languages)
        if len(languages) != len(pairs):
            raise ValueError(f"{len(languages)} languages of {len(pairs)} pairs")
        made = tokenize(pairs, tokenizer, max_tokens, languages)
        self.kept: Sequence[int] = made.kept.tolist()
        self.lengths = made.lengths
        """[pairs, 2]: source tokens and target tokens to predict."""
        self._source_ids, self._source_starts = made.source_ids, _starts(made.source_lengths)
        self._target_ids, self._target_starts = made.target_ids, _starts(made.target_lengths)

    @classmethod
    def from_arrays(
        cls,
        source_ids: np.ndarray,
        source_starts: np.ndarray,
        target_ids: np.ndarray,
        target_starts: np.ndarray,
        lengths: np.ndarray,
    ) -> TokenizedCorpus:
        """Make a corpus of existing arrays.

        Args:
            source_ids: The ids of all sources, concatenated.
            source_starts: [pairs + 1] The index at which each source begins, and the end of the last one.
            target_ids: The ids of all targets, concatenated.
            target_starts: [pairs + 1] As `source_starts`.
            lengths: [pairs, 2], see `lengths`.

        Raises:
            ValueError: the lengths of the arrays do not fit together.
        """
        for ids, starts in ((source_ids, source_starts), (target_ids, target_starts)):
            if len(starts) != len(lengths) + 1 or starts[0] != 0 or starts[-1] != len(ids):
                raise ValueError("its arrays do not belong together")
        corpus = cls.__new__(cls)
        corpus.kept, corpus.lengths = range(len(lengths)), lengths
        corpus._source_ids, corpus._source_starts = source_ids, source_starts
        corpus._target_ids, corpus._target_starts = target_ids, target_starts
        return corpus

    def __len__(self) -> int:
        return len(self._source_starts) - 1

    def ids(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The ids of one pair: source and target, with their special ids."""
        return (
            self._source_ids[self._source_starts[index] : self._source_starts[index + 1]],
            self._target_ids[self._target_starts[index] : self._target_starts[index + 1]],
        )

    def block(self, start: int, stop: int) -> Tokenized:
        """The ids of the pairs from `start` up to, not including, `stop`; fewer if the text ends before."""
        sources, targets = self._source_starts[start : stop + 1], self._target_starts[start : stop + 1]
        return Tokenized(
            np.arange(len(sources) - 1),
            self._source_ids[sources[0] : sources[-1]],
            np.diff(sources),
            self._target_ids[targets[0] : targets[-1]],
            np.diff(targets),
        )

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """The padded batch of the pairs with the given indices."""
        sources, targets = zip(*map(self.ids, indices), strict=True)
        return Batch(_pad(sources), _pad(targets))


class EpochPlan(Sequence[np.ndarray]):
    """The batches of one epoch, as indices of pairs. It takes 4 bytes per pair and 24 per batch."""

    def __init__(self, pairs: np.ndarray, starts: np.ndarray, turns: np.ndarray) -> None:
        """Store the plan.

        Args:
            pairs: The indices of the pairs of all batches, concatenated.
            starts: [batches + 1] The index in `pairs` at which each batch begins, and the end of the last one.
            turns: [batches] The order of the batches.
        """
        self._pairs, self._starts, self._turns = pairs, starts, turns

    def __len__(self) -> int:
        return len(self._turns)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...

    @overload
    def __getitem__(self, index: slice) -> list[np.ndarray]: ...

    def __getitem__(self, index: int | slice) -> np.ndarray | list[np.ndarray]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        batch = int(self._turns[index])
        return self._pairs[self._starts[batch] : self._starts[batch + 1]]


def plan_epoch(lengths: np.ndarray, weights: np.ndarray, batch_tokens: int, seed: int) -> EpochPlan:
    """Plan the batches of one epoch.

    Its memory is the plan, the arrays for sorting `BUCKET_POOL` batches, and 12 bytes per batch.

    Args:
        lengths: [pairs, 2], from `TokenizedCorpus.lengths`.
        weights: [pairs] How often each pair occurs in an epoch. A fraction is the probability of one more time.
        batch_tokens: Bound of the size of a batch: its pairs times the tokens of the longest side.
        seed: The same seed gives the same plan.
    """
    generator = np.random.default_rng(seed)
    indices = _drawn(weights, seed, generator)
    generator.shuffle(indices)
    starts = array("q", [0])
    if len(indices):
        longest = sum(int(lengths[some].max(axis=1).sum()) for some in _slices(indices, _DRAWN_TOGETHER))
        for chosen in _slices(indices, max(1, round(BUCKET_POOL * batch_tokens / (longest / len(indices))))):
            # By source, then by target: with a deep encoder, a padded source token costs more than a target token.
            chosen[:] = chosen[np.lexsort((lengths[chosen, 1], lengths[chosen, 0]))]
            begin = starts[-1]
            starts.extend(begin + end for end in _ends(lengths[chosen].max(axis=1), batch_tokens))
    return EpochPlan(indices, np.frombuffer(starts, dtype=np.int64), generator.permutation(len(starts) - 1))


def _drawn(weights: np.ndarray, seed: int, generator: np.random.Generator) -> np.ndarray:
    """The indices of the pairs of an epoch, ascending. `generator` must be a new generator of `seed`."""

    def counts(drawing: np.random.Generator) -> Iterator[tuple[int, np.ndarray]]:
        for first in range(0, len(weights), _DRAWN_TOGETHER):
            some = weights[first : first + _DRAWN_TOGETHER]
            yield first, np.floor(some + drawing.random(len(some))).astype(np.int64)

    # The counts are drawn twice with the same seed: first for the size of the array, then to fill it.
    total = sum(int(some.sum()) for _, some in counts(np.random.default_rng(seed)))
    drawn = np.empty(total, dtype=np.int32 if len(weights) < 1 << 31 else np.int64)
    end = 0
    for first, some in counts(generator):
        repeated = np.repeat(np.arange(first, first + len(some)), some)
        drawn[end : end + len(repeated)] = repeated
        end += len(repeated)
    return drawn


def _slices(values: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (values[start : start + size] for start in range(0, len(values), size))


def _ends(longest: np.ndarray, batch_tokens: int) -> Iterator[int]:
    """The index at which each batch ends. `longest` has the length of the longer side of each pair."""
    start, width = 0, 0
    for end, length in enumerate(longest.tolist()):
        width = max(width, length)
        if end > start and width * (end + 1 - start) > batch_tokens:
            yield end
            start, width = end, length
    yield len(longest)


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))


def _pad(rows: Sequence[np.ndarray]) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows))), PAD_ID, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
