"""How one row chooses among its candidates: the likeliest one, or a random draw."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from dragoman_service.engine.request import Sampling
from dragoman_service.engine.search.sampling import Draws

Chooser = Callable[[Sequence[float], int], int]
"""From log-probabilities, likeliest first and the first of them finite, to the index of the candidate taken."""


def likeliest(log_probs: Sequence[float], position: int) -> int:
    """Greedy search."""
    return 0


def make_sampler(sampling: Sampling, source: Sequence[int], hypothesis: int) -> Chooser:
    """A chooser that draws exactly once per token."""
    draws = Draws(sampling.seed or 0, source, hypothesis)

    def choose(log_probs: Sequence[float], position: int) -> int:
        return pick(log_probs, sampling, draws.at(position))

    return choose


def pick(log_probs: Sequence[float], sampling: Sampling, uniform: float) -> int:
    """Index of the candidate at `uniform`, 0 to below 1, of the distribution after temperature, top-k and top-p.

    `log_probs` are at most `top_k`, likeliest first. The nucleus of top-p is the shortest head of the candidates whose
    share of the probability of all of them, at the given temperature, reaches `top_p` (Holtzman et al. 2020).
    """
    best = log_probs[0]
    # Relative to the best, so that no temperature makes all weights underflow.
    cumulative = list(accumulate(math.exp((log_prob - best) / sampling.temperature) for log_prob in log_probs))
    last = min(bisect_left(cumulative, sampling.top_p * cumulative[-1]), len(cumulative) - 1)
    # bisect_right steps over candidates of weight 0; the product may round up to the whole nucleus, hence min.
    return min(bisect_right(cumulative, uniform * cumulative[last]), last)
