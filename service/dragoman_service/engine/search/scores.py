"""Scores of hypotheses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from dragoman_service.engine.request import FinishReason, Hypothesis, Normalisation, Request
from dragoman_service.engine.search.utf8 import NO_BYTE_PIECES, BytePieces

BANNED = float("-inf")
"""Log-probability of a banned token, and the bias that bans it."""


def length_penalty(length: int, request: Request) -> float:
    """Divisor of a sum of log-probabilities, which does not fall with `length`, in tokens.

    A length of 0 counts as 1 in `Normalisation.POWER`: a hypothesis that was cut before its first token has sum 0.
    """
    alpha = request.options.length_penalty
    if request.normalisation is Normalisation.POWER:
        return float(max(length, 1) ** alpha)
    return float(((5 + length) / 6) ** alpha)


def total(log_probs: Iterable[float]) -> float:
    """The sum, added from left to right in double precision, in the same order as the search does."""
    value = 0.0
    for log_prob in log_probs:
        value += log_prob
    return value


class Chosen(NamedTuple):
    """The tokens of a hypothesis, and what belongs to each."""

    tokens: list[int]
    log_probs: list[float]
    alignment: Sequence[int] = ()
    """See `request.Hypothesis.alignment`."""


def stopped(chosen: Chosen, end: float, end_total: float, request: Request) -> Hypothesis:
    """Make a hypothesis that ends by itself.

    `end` is the log-probability of the end of the sentence, which counts in `end_total` and in the length.
    """
    tokens, log_probs, alignment = chosen
    score = end_total / length_penalty(len(tokens) + 1, request)
    return Hypothesis(tuple(tokens), tuple(log_probs), score, FinishReason.STOP, end, tuple(alignment))


def cut(
    chosen: Chosen,
    request: Request,
    byte_pieces: BytePieces = NO_BYTE_PIECES,
    reason: FinishReason = FinishReason.LENGTH,
) -> Hypothesis:
    """Make a hypothesis that was cut before the end of the sentence.

    The bytes of an unfinished character are left out, but count in the score, which is that of the search.
    """
    tokens, log_probs, alignment = chosen
    score = total(log_probs) / length_penalty(len(tokens), request)
    kept = byte_pieces.whole(tokens)
    return Hypothesis(tuple(tokens[:kept]), tuple(log_probs[:kept]), score, reason, 0.0, tuple(alignment[:kept]))
