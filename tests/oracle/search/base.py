"""What every search strategy offers to the scheduler, and how all of them see scores."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

from dragoman_service.engine.request import Hypothesis, Normalisation, Request
from dragoman_service.errors import EngineFailure
from oracle.plan import Adjustment, Mask

BANNED = float("-inf")
"""Log-probability of a token that must not come, and the bias that makes it so."""


class Search(ABC):
    """The decoding of one request: which tokens its rows are fed, and what becomes of the candidates.

    Rows are numbered from 0 within the request, wherever they lie in the running batch; all are at the same position.
    One call of `advance` is one position. A search sees nothing but its own rows, so it cannot depend on neighbours.
    """

    __slots__ = ("copies", "demanding", "done", "feeds_likeliest", "next_tokens", "num_candidates")

    num_candidates: int
    """Candidates wanted per row."""
    next_tokens: list[int]
    """Per row: the token to feed in the next step. Rows that have nothing to say any more are fed a filler."""
    copies: list[tuple[int, int]]
    """(source, target) rows whose caches must be copied before the next step. No target is a source."""
    demanding: bool
    """Whether there can ever be copies or adjustments; lets the common case cost nothing."""
    feeds_likeliest: bool
    """Whether rows that are not done are always fed their likeliest candidate."""
    done: bool
    """Whether `hypotheses` may be asked."""

    @abstractmethod
    def adjustments(self, rows: Sequence[int]) -> Sequence[Adjustment]:
        """Changes to the logits of the next step; `rows` says where in the batch each row of the request lies."""

    @abstractmethod
    def masks(self, rows: Sequence[int]) -> dict[int, Mask]:
        """The tokens that rows are restricted to in the next step; rows as in `adjustments`."""

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


def length_penalty(length: int, request: Request) -> float:
    """What a sum of log-probabilities is divided by; `length` in tokens."""
    base = {Normalisation.GNMT: (5 + length) / 6, Normalisation.POWER: length or 1}[request.normalisation]
    return float(base**request.options.length_penalty)


def has_candidate(log_probs: Sequence[float]) -> bool:
    """Whether at least one candidate is not banned. Raises `EngineFailure` if the model returned NaN."""
    best = log_probs[0] if log_probs else BANNED
    if best > BANNED:
        return True
    if math.isnan(best):
        raise EngineFailure("the model returned NaN instead of log-probabilities")
    return False
