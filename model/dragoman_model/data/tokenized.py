"""Token ids of pairs in flat arrays. Imports no PyTorch, for the processes of `bpe_dropout`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np


@dataclass(frozen=True, slots=True)
class Tokenized:
    """Token ids of pairs in flat arrays. Lists of lists would take ten times the memory."""

    kept: np.ndarray
    """[pairs] The indices of these pairs among the pairs given to `tokenize`."""
    source_ids: np.ndarray
    """The ids of all sources, concatenated."""
    source_lengths: np.ndarray
    """[pairs]"""
    target_ids: np.ndarray
    """The ids of all targets, concatenated."""
    target_lengths: np.ndarray
    """[pairs] Includes the begin token and the end of the sentence."""

    @property
    def lengths(self) -> np.ndarray:
        """[pairs, 2], as `TokenizedCorpus.lengths`."""
        return np.stack((self.source_lengths, self.target_lengths - 1), axis=1).astype(np.int32)

    def sides(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The ids of each source, and those of each target."""
        return (
            np.split(self.source_ids, np.cumsum(self.source_lengths)[:-1]),
            np.split(self.target_ids, np.cumsum(self.target_lengths)[:-1]),
        )


def flatten(rows: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
    """The ids of all rows, concatenated, and the length of each row."""
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    return np.fromiter(chain.from_iterable(rows), dtype=np.int32, count=int(lengths.sum())), lengths
