"""Greedy search and sampling: every row writes a hypothesis of its own and never looks at the others."""

from __future__ import annotations

from collections.abc import Sequence

from dragoman_service.plan import Adjustment
from dragoman_service.request import Hypothesis, Request
from dragoman_service.search.base import Draft, Search, has_candidate
from dragoman_service.search.constraints import Constraints
from dragoman_service.search.sampling import Chooser


class IndependentSearch(Search):
    """One hypothesis per chooser. Greedy search is the case of a single row that takes the likeliest candidate."""

    __slots__ = ("_alpha", "_choosers", "_constraints", "_drafts", "_end_id", "_finished", "_max_length", "_prefix")

    def __init__(
        self, request: Request, choosers: Sequence[Chooser], num_candidates: int, *, begin_id: int, end_id: int
    ) -> None:
        self.num_candidates = num_candidates
        self.next_tokens = [begin_id] * len(choosers)
        self.copies = []
        self.done = False
        self._choosers = tuple(choosers)
        self._drafts = [Draft() for _ in choosers]
        self._finished: list[Hypothesis | None] = [None] * len(choosers)
        self._constraints = Constraints(request.options, end_id)
        self._alpha = request.options.length_penalty
        self._prefix = request.target_prefix
        self._max_length = request.max_length
        self._end_id = end_id

    def adjustments(self, rows: Sequence[int]) -> Sequence[Adjustment]:
        if not self._constraints.active:
            return ()
        return [
            adjustment
            for row, draft, finished in zip(rows, self._drafts, self._finished, strict=True)
            if finished is None and len(draft.tokens) >= len(self._prefix)
            for adjustment in self._constraints.adjustments(row, draft.tokens)
        ]

    def advance(self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]) -> None:
        done = True
        for row, draft in enumerate(self._drafts):
            if self._finished[row] is not None:
                continue
            self._finished[row] = self._write(draft, self._choosers[row], token_ids[row], log_probs[row])
            if self._finished[row] is None:
                self.next_tokens[row] = draft.tokens[-1]
                done = False
            else:
                self.next_tokens[row] = self._end_id
        self.done = done

    def _write(
        self, draft: Draft, choose: Chooser, token_ids: Sequence[int], log_probs: Sequence[float]
    ) -> Hypothesis | None:
        """Write one token; the hypothesis, if that was the last one."""
        length = len(draft.tokens)
        if length < len(self._prefix):
            draft.append(self._prefix[length], 0.0)
            return None
        if not has_candidate(log_probs):
            return draft.cut(self._alpha)
        index = choose(log_probs)
        token, log_prob = token_ids[index], log_probs[index]
        if token == self._end_id:
            return draft.stopped(log_prob, self._alpha)
        draft.append(token, log_prob)
        return draft.cut(self._alpha) if length + 1 == self._max_length else None

    def decided(self, start: int) -> tuple[int, ...]:
        # Which of several samples is the best one is known only at the end.
        return tuple(self._drafts[0].tokens[start:]) if len(self._drafts) == 1 else ()

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        finished = [hypothesis for hypothesis in self._finished if hypothesis is not None]
        return tuple(sorted(finished, key=lambda hypothesis: -hypothesis.score))
