"""The formulas of other programs for fixed positions. All have the sines in the first half of a row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from dragoman_export.imports.lazy import LazyTensor

_Numbers: TypeAlias = npt.NDArray[Any]


def hugging_face_marian(count: int, width: int) -> LazyTensor:
    """[count, width]. `MarianSinusoidalPositionalEmbedding`: rates 10000^(-2i / width)."""
    return _table(0, count, width // 2, lambda it: 10000.0 ** (-2 * it / width))


def tensor2tensor(count: int, width: int, first: int = 0) -> LazyTensor:
    """[count, width]. Rates 10000^(-i / (width / 2 - 1)), from position `first`.

    The formula of tensor2tensor, and so of Marian (`first` 0), fairseq (2: the padding id plus 1) and OpenNMT-tf (1).
    """
    half = width // 2
    return _table(first, count, half, lambda it: 10000.0 ** (-it / max(half - 1, 1)))


def _table(first: int, count: int, half: int, rate: Callable[[_Numbers], _Numbers]) -> LazyTensor:
    """[count, 2 * half]. `rate` gives the rates of the indices 0 to `half` - 1."""

    def read_rows(rows: slice) -> npt.NDArray[np.float32]:
        start, stop, _ = rows.indices(count)
        angles = np.arange(first + start, first + stop)[:, None] * rate(np.arange(half))  # [P, D / 2]
        return np.concatenate((np.sin(angles), np.cos(angles)), axis=1).astype(np.float32)

    return LazyTensor((count, 2 * half), read_rows)
