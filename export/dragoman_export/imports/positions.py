"""The formulas of other programs for fixed positions. All have the sines in the first half of a row."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dragoman_export.imports.lazy import LazyTensor, constant


def hugging_face_marian(count: int, width: int) -> LazyTensor:
    """[count, width]. `MarianSinusoidalPositionalEmbedding`: rates 10000^(-2i / width)."""
    return _table(np.arange(count), 10000.0 ** (-2 * np.arange(width // 2) / width))


def tensor2tensor(count: int, width: int, first: int = 0) -> LazyTensor:
    """[count, width]. Rates 10000^(-i / (width / 2 - 1)), from position `first`.

    The formula of tensor2tensor, and so of Marian (`first` 0), fairseq (2: the padding id plus 1) and OpenNMT-tf (1).
    """
    half = width // 2
    return _table(np.arange(first, first + count), 10000.0 ** (-np.arange(half) / max(half - 1, 1)))


def _table(positions: npt.NDArray[np.int64], rates: npt.NDArray[np.float64]) -> LazyTensor:
    angles = positions[:, None] * rates  # [P, D / 2]
    return constant(np.concatenate((np.sin(angles), np.cos(angles)), axis=1).astype(np.float32))
