"""What every search strategy offers to the scheduler, and the hypothesis in the making that they all write."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from dragoman_service.errors import EngineFailure
from dragoman_service.plan import Adjustment
from dragoman_service.request import FinishReason, Hypothesis

BANNED = float("-inf")
"""Log-probability of a token that must not come, and the bias that makes it so."""


class Search(ABC):
    """The decoding of one request: which tokens its rows are fed, and what becomes of the candidates.

    Rows are numbered from 0 within the request, wherever they lie in the running batch; all are at the same position.
    One call of `advance` is one position. A search sees nothing but its own rows, so it cannot depend on neighbours.
    """

    __slots__ = ("copies", "done", "next_tokens", "num_candidates")

    num_candidates: int
    """Candidates wanted per row."""
    next_tokens: list[int]
    """Per row: the token to feed in the next step. Rows that have nothing to say any more are fed a filler."""
    copies: list[tuple[int, int]]
    """(source, target) rows whose caches must be copied before the next step. No target is a source."""
    done: bool
    """Whether `hypotheses` may be asked."""

    @abstractmethod
    def adjustments(self, rows: Sequence[int]) -> Sequence[Adjustment]:
        """Changes to the logits of the next step; `rows` says where in the batch each row of the request lies."""

    @abstractmethod
    def advance(self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]) -> None:
        """Take the candidates of one step: per row, up to `num_candidates` of them, likeliest first.

        Candidates of log-probability minus infinity are banned ones that came for want of others: they are never taken.
        Raises `EngineFailure` if the model returned NaN.
        """

    @abstractmethod
    def decided(self, start: int) -> tuple[int, ...]:
        """Tokens from position `start` on that are certain to stand in the best hypothesis."""

    @abstractmethod
    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The finished hypotheses, best first, at most as many as were asked for. Only when `done`."""


class Draft:
    """A hypothesis in the making: tokens, their log-probabilities, and the sum of these."""

    __slots__ = ("scores", "tokens", "total")

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.scores: list[float] = []
        self.total = 0.0

    def append(self, token: int, log_prob: float) -> None:
        """Write one more token."""
        self.tokens.append(token)
        self.scores.append(log_prob)
        self.total += log_prob

    def extended(self, token: int, log_prob: float) -> Draft:
        """A new draft with one more token; this one stays as it is."""
        child = Draft.__new__(Draft)
        child.tokens = [*self.tokens, token]
        child.scores = [*self.scores, log_prob]
        child.total = self.total + log_prob
        return child

    def stopped(self, end_log_prob: float, alpha: float) -> Hypothesis:
        """This hypothesis, ended by the end of the sentence, which counts in sum and length."""
        score = (self.total + end_log_prob) / length_penalty(len(self.tokens) + 1, alpha)
        return Hypothesis(tuple(self.tokens), tuple(self.scores), score, FinishReason.STOP)

    def cut(self, alpha: float) -> Hypothesis:
        """This hypothesis, incomplete."""
        score = self.total / length_penalty(len(self.tokens), alpha)
        return Hypothesis(tuple(self.tokens), tuple(self.scores), score, FinishReason.LENGTH)


def length_penalty(length: int, alpha: float) -> float:
    """What a sum of log-probabilities is divided by (Wu et al. 2016, equation 14); `length` in tokens."""
    return float(((5 + length) / 6) ** alpha)


def has_candidate(log_probs: Sequence[float]) -> bool:
    """Whether at least one candidate is not banned. Raises `EngineFailure` if the model returned NaN."""
    best = log_probs[0] if log_probs else BANNED
    if math.isnan(best):
        raise EngineFailure("the model returned NaN instead of log-probabilities")
    return best > BANNED
