"""Random sampling of candidates (temperature, top-k, nucleus)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dragoman_service.engine.request import Sampling


class Draws:
    """The random numbers of one row, one for each token. They depend on seed, source and number of the hypothesis only.

    So the sentences of a call draw independently, and the same sentence with the same seed always draws the same.
    """

    __slots__ = ("_generator", "_values")

    def __init__(self, seed: int, source: Sequence[int], hypothesis: int) -> None:
        content = repr((seed, tuple(source), hypothesis)).encode()
        key = int.from_bytes(hashlib.blake2b(content, digest_size=16).digest(), "little")
        self._generator = np.random.Generator(np.random.Philox(key=key))
        self._values: list[float] = []

    def at(self, position: int) -> float:
        """The number for the token at `position`, in [0, 1)."""
        while len(self._values) <= position:
            self._values += self._generator.random(32).tolist()
        return self._values[position]


class Settings:
    """Sampling options of rows, as arrays [rows, 1]."""

    __slots__ = ("temperature", "top_k", "top_p")

    def __init__(self, options: Sequence[Sampling]) -> None:
        self.temperature = np.array([each.temperature for each in options], np.float64)[:, None]
        self.top_k = np.array([each.top_k for each in options], np.int64)[:, None]
        self.top_p = np.array([each.top_p for each in options], np.float64)[:, None]


def pick(
    log_probs: npt.NDArray[np.float64], settings: Settings, uniform: npt.NDArray[np.float64]
) -> npt.NDArray[np.intp]:
    """Draw a candidate for each row; returns the indices [rows].

    The nucleus is the shortest head of the candidates whose share of the probability of the `top_k` likeliest, at the
    given temperature, reaches `top_p` (Holtzman et al. 2020).

    Args:
        log_probs: [rows, candidates], likeliest first, the first of each row finite; those after `top_k` are ignored.
        settings: Options of these rows.
        uniform: [rows], each in [0, 1).
    """
    rank = np.arange(log_probs.shape[1])
    # Relative to the best candidate, so that its weight is 1 at any temperature.
    weights = np.exp((log_probs - log_probs[:, :1]) / settings.temperature)
    weights[rank >= settings.top_k] = 0.0
    cumulative = np.cumsum(weights, axis=1)
    wanted = settings.top_p * cumulative[:, -1:]
    most = np.minimum(settings.top_k[:, 0], log_probs.shape[1]) - 1
    last = np.minimum((cumulative < wanted).sum(axis=1), most)
    nucleus = np.take_along_axis(cumulative, last[:, None], axis=1)
    # `<=` skips candidates of weight 0. The product may round up to the sum of the nucleus, hence the minimum.
    drawn: npt.NDArray[np.intp] = np.minimum((cumulative <= uniform[:, None] * nucleus).sum(axis=1), last)
    return drawn
