"""Tokenised pairs, and batches of similar length in an order that a seed decides."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from dragoman_model.corpus import Pair
from dragoman_model.transformer import PAD_ID
from dragoman_service.bundle.tokenizer import Tokenizer

BUCKET_POOL = 1000
"""Batches' worth of pairs that are sorted by length together. Padding was 13 % of the multiplications of the recipe
en-de with 100 batches sorted by target first; it is 1.3 % with 1,000 sorted by source first."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Padded ids of some pairs."""

    source: Tensor
    """[B, S], each row ending with the end of the sentence."""
    target: Tensor
    """[B, T + 1], each row from the begin token to the end of the sentence; shifted views of it are input and gold."""

    @property
    def num_tokens(self) -> int:
        """Target tokens to predict, without padding."""
        return int((self.target[:, 1:] != PAD_ID).sum())


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Ids of pairs in flat arrays: a list of lists would take ten times the memory."""

    kept: np.ndarray
    """[pairs] the indices of those that are here, among those that were given."""
    source_ids: np.ndarray
    source_lengths: np.ndarray
    target_ids: np.ndarray
    target_lengths: np.ndarray
    """With the begin token, which is read, and the end, which is predicted."""


def tokenize(
    pairs: Sequence[Pair], tokenizer: Tokenizer, max_tokens: int, target_languages: Sequence[str]
) -> Tokenized:
    """The ids of pairs; those of more than `max_tokens` on either side, with tag and end, are left out.

    `target_languages` has that of each pair.
    """
    sources: list[Sequence[int]] = []
    targets: list[Sequence[int]] = []
    kept: list[int] = []
    encoded = tokenizer.encode_batch([text for pair in pairs for text in pair])
    for index, language in enumerate(target_languages):
        source_ids, target_ids = encoded[2 * index], encoded[2 * index + 1]
        longest = max(len(source_ids) + tokenizer.source_overhead, len(target_ids) + 1)
        if source_ids and target_ids and longest <= max_tokens:
            sources.append(tokenizer.source(source_ids, language))
            targets.append([tokenizer.begin_id, *target_ids, tokenizer.end_id])
            kept.append(index)
    return Tokenized(np.array(kept, dtype=np.int64), *_flatten(sources), *_flatten(targets))


class TokenizedCorpus:
    """The token ids of many pairs, in flat arrays, which may be files that are mapped into memory."""

    def __init__(
        self, pairs: Sequence[Pair], tokenizer: Tokenizer, max_tokens: int, target_languages: Iterable[str]
    ) -> None:
        """Tokenise; pairs of more than `max_tokens` on either side, with tag and end, are left out.

        `target_languages` has that of each pair. `kept` has the indices of the pairs that are there.
        """
        languages = list(target_languages)
        if len(languages) != len(pairs):
            raise ValueError(f"{len(languages)} languages of {len(pairs)} pairs")
        made = tokenize(pairs, tokenizer, max_tokens, languages)
        self.kept = made.kept
        self._set(made.source_ids, _starts(made.source_lengths), made.target_ids, _starts(made.target_lengths))

    @classmethod
    def from_arrays(
        cls, source_ids: np.ndarray, source_starts: np.ndarray, target_ids: np.ndarray, target_starts: np.ndarray
    ) -> TokenizedCorpus:
        """Of ids one behind the other and where each pair's begin, with the end of the last.

        Raises:
            ValueError: the arrays do not belong together.
        """
        for ids, starts in ((source_ids, source_starts), (target_ids, target_starts)):
            if len(starts) != len(source_starts) or starts[0] != 0 or starts[-1] != len(ids):
                raise ValueError("its arrays do not belong together")
        corpus = cls.__new__(cls)
        corpus.kept = np.arange(len(source_starts) - 1)
        corpus._set(source_ids, source_starts, target_ids, target_starts)
        return corpus

    def _set(
        self, source_ids: np.ndarray, source_starts: np.ndarray, target_ids: np.ndarray, target_starts: np.ndarray
    ) -> None:
        self._source_ids, self._source_starts = source_ids, source_starts
        self._target_ids, self._target_starts = target_ids, target_starts
        self.lengths = np.empty((len(source_starts) - 1, 2), dtype=np.int32)
        """[pairs, 2]: source tokens and target tokens to predict."""
        self.lengths[:, 0] = np.diff(source_starts)
        self.lengths[:, 1] = np.diff(target_starts)
        self.lengths[:, 1] -= 1

    def __len__(self) -> int:
        return len(self._source_starts) - 1

    def batch(self, indices: Sequence[int] | np.ndarray) -> Batch:
        """Pad the pairs of the given indices."""
        return Batch(
            _pad([self._source_ids[self._source_starts[i] : self._source_starts[i + 1]] for i in indices]),
            _pad([self._target_ids[self._target_starts[i] : self._target_starts[i + 1]] for i in indices]),
        )


def plan_epoch(lengths: np.ndarray, weights: np.ndarray, batch_tokens: int, seed: int) -> list[np.ndarray]:
    """The batches of one epoch, as indices of pairs.

    Args:
        lengths: [pairs, 2], from `TokenizedCorpus.lengths`.
        weights: [pairs], how often each occurs in an epoch; a fraction is the probability of once more.
        batch_tokens: Bound on pairs * longest side.
        seed: Same seed, same plan.
    """
    generator = np.random.default_rng(seed)
    counts = np.floor(weights + generator.random(len(weights))).astype(np.int64)
    indices = generator.permutation(np.repeat(np.arange(len(weights)), counts))
    if len(indices) == 0:
        return []
    pool = max(1, round(BUCKET_POOL * batch_tokens / float(lengths[indices].max(axis=1).mean())))
    batches: list[np.ndarray] = []
    for start in range(0, len(indices), pool):
        chosen = indices[start : start + pool]
        # By source, then by target: a padded source token costs more than a padded target one in a deep encoder.
        chosen = chosen[np.lexsort((lengths[chosen, 1], lengths[chosen, 0]))]
        batches.extend(_cut(chosen, lengths[chosen].max(axis=1), batch_tokens))
    return [batches[i] for i in generator.permutation(len(batches))]


def _cut(indices: np.ndarray, longest: np.ndarray, batch_tokens: int) -> Iterator[np.ndarray]:
    start, width = 0, 0
    for end, length in enumerate(longest.tolist()):
        width = max(width, length)
        if end > start and width * (end + 1 - start) > batch_tokens:
            yield indices[start:end]
            start, width = end, length
    yield indices[start:]


def _flatten(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum())), lengths


def _starts(lengths: np.ndarray) -> np.ndarray:
    return np.concatenate((np.zeros(1, dtype=np.int64), np.cumsum(lengths)))


def _pad(rows: Sequence[np.ndarray]) -> Tensor:
    padded = np.full((len(rows), max(map(len, rows))), PAD_ID, dtype=np.int64)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)
