"""The score of a hypothesis."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_service.engine.request import FinishReason, Hypothesis

BANNED = float("-inf")
"""Log-probability of a token that must not come, and the bias that makes it so."""


def length_penalty(length: int, alpha: float) -> float:
    """What a sum of log-probabilities is divided by (Wu et al. 2016, equation 14); `length` in tokens."""
    return float(((5 + length) / 6) ** alpha)


def total(log_probs: Iterable[float]) -> float:
    """The sum, added from left to right in double precision, as a search does step by step."""
    value = 0.0
    for log_prob in log_probs:
        value += log_prob
    return value


def stopped(tokens: list[int], log_probs: list[float], end_total: float, alpha: float) -> Hypothesis:
    """A hypothesis with the end of its sentence, which counts in `end_total` and in the length."""
    score = end_total / length_penalty(len(tokens) + 1, alpha)
    return Hypothesis(tuple(tokens), tuple(log_probs), score, FinishReason.STOP)


def cut(tokens: list[int], log_probs: list[float], alpha: float) -> Hypothesis:
    """A hypothesis without its end."""
    score = total(log_probs) / length_penalty(len(tokens), alpha)
    return Hypothesis(tuple(tokens), tuple(log_probs), score, FinishReason.LENGTH)
