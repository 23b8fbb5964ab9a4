"""Greedy search and sampling: every row writes a hypothesis of its own and never looks at the others."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_service.engine.request import FinishReason, Hypothesis, Request
from oracle.plan import Adjustment, Mask
from oracle.search.base import Search, has_candidate, length_penalty
from oracle.search.constraints import Constraints
from oracle.search.sampling import Chooser, likeliest


class _Draft:
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

    def stopped(self, end_log_prob: float, request: Request) -> Hypothesis:
        """This hypothesis, ended by the end of the sentence, which counts in sum and length."""
        score = (self.total + end_log_prob) / length_penalty(len(self.tokens) + 1, request)
        return Hypothesis(tuple(self.tokens), tuple(self.scores), score, FinishReason.STOP, end_log_prob)

    def cut(self, request: Request) -> Hypothesis:
        """This hypothesis, incomplete."""
        score = self.total / length_penalty(len(self.tokens), request)
        return Hypothesis(tuple(self.tokens), tuple(self.scores), score, FinishReason.LENGTH)


class IndependentSearch(Search):
    """One hypothesis per chooser. Greedy search is the case of a single row that takes the likeliest candidate."""

    __slots__ = (
        "_choosers", "_constraints", "_drafts", "_end_id", "_fed", "_finished", "_max_length", "_prefix", "_request",
        "_writing",
    )  # fmt: skip

    def __init__(
        self, request: Request, choosers: Sequence[Chooser], num_candidates: int, *, begin_id: int, end_id: int
    ) -> None:
        self.num_candidates = num_candidates
        self.next_tokens = [begin_id] * len(choosers)
        self.copies = []
        self.done = False
        self._choosers = tuple(choosers)
        self._drafts = [_Draft() for _ in choosers]
        self._writing = list(range(len(choosers)))  # rows that have not finished
        self._finished: list[Hypothesis | None] = [None] * len(choosers)
        self._constraints = Constraints(request, end_id)
        self.demanding = self._constraints.active
        self._request = request
        self._prefix = request.target_prefix
        self._fed = 0  # of the forced ids
        given = request.forced or self._prefix
        self.feeds_likeliest = not (self.demanding or given) and all(c is likeliest for c in choosers)
        self._max_length = request.max_length
        self._end_id = end_id

    def adjustments(self, rows: Sequence[int]) -> Sequence[Adjustment]:
        if not self._constraints.active or self._fed < len(self._request.forced):
            return ()
        return [
            adjustment
            for row in self._writing
            if len(self._drafts[row].tokens) >= len(self._prefix)
            for adjustment in self._constraints.adjustments(rows[row], self._drafts[row].tokens)
        ]

    def masks(self, rows: Sequence[int]) -> dict[int, Mask]:
        if self._fed < len(self._request.forced):
            return {}
        return {
            rows[row]: mask
            for row in self._writing
            if len(self._drafts[row].tokens) >= len(self._prefix)
            and (mask := self._constraints.mask(self._drafts[row].tokens))
        }

    def advance(self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]) -> None:
        if self._fed < len(self._request.forced):
            self.next_tokens = [self._request.forced[self._fed]] * len(self._choosers)
            self._fed += 1
            return
        for row in self._writing:
            self.next_tokens[row] = self._write(row, token_ids[row], log_probs[row])

    def _write(self, row: int, token_ids: Sequence[int], log_probs: Sequence[float]) -> int:
        """Write one token; returns what to feed next."""
        draft = self._drafts[row]
        length = len(draft.tokens)
        if length < len(self._prefix):
            draft.append(self._prefix[length], 0.0)
            return self._prefix[length]
        if not has_candidate(log_probs):
            return self._finish(row, draft.cut(self._request))
        index = self._choosers[row](log_probs, self._fed + length)
        token, log_prob = token_ids[index], log_probs[index]
        if token == self._end_id:
            return self._finish(row, draft.stopped(log_prob, self._request))
        if length == self._max_length:
            return self._finish(row, draft.cut(self._request))
        draft.append(token, log_prob)
        return token

    def _finish(self, row: int, hypothesis: Hypothesis) -> int:
        """This was the row's last token; returns a filler to feed."""
        self._finished[row] = hypothesis
        self._writing = [other for other in self._writing if other != row]
        self.done = not self._writing
        return self._end_id

    def decided(self, start: int) -> tuple[int, ...]:
        # Which of several samples is the best one is known only at the end.
        return tuple(self._drafts[0].tokens[start:]) if len(self._drafts) == 1 else ()

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        finished = [hypothesis for hypothesis in self._finished if hypothesis is not None]
        return tuple(sorted(finished, key=lambda hypothesis: -hypothesis.score))
