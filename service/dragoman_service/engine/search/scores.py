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


def score(log_prob: float, length: int, aligned: Sequence[int], request: Request) -> float:
    """The score of a hypothesis that has ended.

    Attention that is 0 or 1 makes the coverage penalty of Wu et al. 2016, equation 14, a number of tokens; here it is
    their share. No score is higher with it, so a bound of scores without it is one of scores with it.

    Args:
        log_prob: Sum of the log-probabilities of its tokens.
        length: Number of these.
        aligned: The source positions that they are aligned to.
        request: The request.
    """
    normalised = log_prob / length_penalty(length, request)
    if not request.options.coverage_penalty or not request.content:
        return normalised
    uncovered = len(set(request.content).difference(aligned))
    return normalised - request.options.coverage_penalty * uncovered / len(request.content)


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
    value = score(end_total, len(tokens) + 1, alignment[: len(tokens)], request)
    return Hypothesis(tuple(tokens), tuple(log_probs), value, FinishReason.STOP, end, tuple(alignment))


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
    value = score(total(log_probs), len(tokens), alignment, request)
    kept = byte_pieces.whole(tokens)
    return Hypothesis(tuple(tokens[:kept]), tuple(log_probs[:kept]), value, reason, 0.0, tuple(alignment[:kept]))
