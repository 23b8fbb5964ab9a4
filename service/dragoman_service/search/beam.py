"""Beam search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dragoman_service.plan import Adjustment
from dragoman_service.request import Hypothesis, Request
from dragoman_service.search.base import BANNED, Draft, Search, has_candidate, length_penalty
from dragoman_service.search.constraints import Constraints


class _Child(NamedTuple):
    """A live hypothesis and one candidate for its next token; sorts best first, ties by row, then by candidate."""

    cost: float
    """Minus the sum of log-probabilities, the candidate's included."""
    row: int
    rank: int
    token: int
    log_prob: float


class BeamSearch(Search):
    """Keeps the `beam_size` likeliest hypotheses, one per row, and collects those that end.

    Per position, the `2 * beam_size` best children are looked at: as each hypothesis has one end of the sentence, at
    least `beam_size` of them go on. Ends among the first `beam_size` finish a hypothesis. The search is over when
    `beam_size` have finished and no live one can still score better than the worst of them, or at `max_length`.
    """

    __slots__ = (
        "_alpha", "_beam_size", "_constraints", "_end_id", "_finished", "_identical", "_live", "_max_length",
        "_max_penalty", "_num_hypotheses", "_prefix", "_rows",
    )  # fmt: skip

    def __init__(self, request: Request, *, begin_id: int, end_id: int) -> None:
        options = request.options
        self._beam_size = options.beam_size
        self.num_candidates = 2 * options.beam_size
        self.next_tokens = [begin_id] * options.beam_size
        self.copies = []
        self.done = False
        self._num_hypotheses = options.num_hypotheses
        self._constraints = Constraints(options, end_id)
        self._alpha = options.length_penalty
        self._prefix = request.target_prefix
        self._max_length = request.max_length
        self._max_penalty = length_penalty(request.max_length, options.length_penalty)
        self._end_id = end_id
        self._rows: list[Draft | None] = [Draft()] + [None] * (options.beam_size - 1)
        self._live: list[Draft] = [draft for draft in self._rows if draft is not None]  # best first
        self._identical = True  # all rows have been fed the same tokens, those without a hypothesis too
        self._finished: list[Hypothesis] = []  # best first, at most beam_size

    def adjustments(self, rows: Sequence[int]) -> Sequence[Adjustment]:
        if not self._constraints.active or len(self._live[0].tokens) < len(self._prefix):
            return ()
        return [
            adjustment
            for row, draft in zip(rows, self._rows, strict=True)
            if draft is not None
            for adjustment in self._constraints.adjustments(row, draft.tokens)
        ]

    def advance(self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]) -> None:
        length = len(self._live[0].tokens)
        if length < len(self._prefix):
            self._live[0].append(self._prefix[length], 0.0)
            self.next_tokens = [self._prefix[length]] * self._beam_size
            return
        children = self._best_children(token_ids, log_probs)
        going_on = [child for child in children if child.token != self._end_id][: self._beam_size]
        for child in children[: self._beam_size]:
            if child.token == self._end_id:
                self._finish(self._draft(child.row).stopped(child.log_prob, self._alpha))
        if going_on:
            self._place(going_on)
        if not going_on or length + 1 == self._max_length:
            # Without children, everything but the end was banned: what there is ends here, incomplete.
            for draft in self._live if going_on or not self._finished else ():
                self._finish(draft.cut(self._alpha))
            self.done = True
        elif len(self._finished) == self._beam_size:
            self.done = self._bound(self._live[0]) <= self._finished[-1].score

    def _best_children(self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]) -> list[_Child]:
        """The best `2 * beam_size` children over all live hypotheses, best first."""
        children = [
            _Child(-(draft.total + log_prob), row, rank, token, log_prob)
            for row, draft in enumerate(self._rows)
            if draft is not None and has_candidate(log_probs[row])
            for rank, (token, log_prob) in enumerate(zip(token_ids[row], log_probs[row], strict=True))
            if log_prob > BANNED
        ]
        children.sort()
        return children[: 2 * self._beam_size]

    def _place(self, children: list[_Child]) -> None:
        """Make the children the live hypotheses: the best child stays in its parent's row, the others need copies.

        A row that keeps a child is never written to, and only such rows are copied from: any order of copies is good.
        """
        rows: list[Draft | None] = [None] * self._beam_size
        live: list[Draft] = []
        extra: list[tuple[int, Draft]] = []
        for child in children:
            draft = self._draft(child.row).extended(child.token, child.log_prob)
            live.append(draft)
            if rows[child.row] is None:
                rows[child.row] = draft
            else:
                extra.append((child.row, draft))
        free = [row for row, occupant in enumerate(rows) if occupant is None]
        # Fewer children than rows come only from a tiny vocabulary or many bans; then some rows stay empty.
        placed = list(zip(free, extra, strict=False))
        for target, (_, draft) in placed:
            rows[target] = draft
        self.copies = [] if self._identical else [(source, target) for target, (source, _) in placed]
        self._identical = False
        self._rows, self._live = rows, live
        self.next_tokens = [self._end_id if draft is None else draft.tokens[-1] for draft in rows]

    def _draft(self, row: int) -> Draft:
        draft = self._rows[row]
        assert draft is not None  # candidates of empty rows are never looked at
        return draft

    def _finish(self, hypothesis: Hypothesis) -> None:
        self._finished.append(hypothesis)
        self._finished.sort(key=lambda finished: -finished.score)  # stable: of equals, the earlier one stays ahead
        del self._finished[self._beam_size :]

    def _bound(self, draft: Draft) -> float:
        """The best score that any continuation can get: no further loss, and the longest possible translation."""
        return draft.total / self._max_penalty

    def decided(self, start: int) -> tuple[int, ...]:
        best = self._finished[0] if self._finished else None
        contenders = [draft.tokens for draft in self._live if best is None or self._bound(draft) > best.score]
        if best is not None:
            contenders.append(list(best.tokens))
        common: list[int] = []
        for tokens in zip(*(tokens[start:] for tokens in contenders), strict=False):
            if any(token != tokens[0] for token in tokens):
                break
            common.append(tokens[0])
        return tuple(common)

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        return tuple(self._finished[: self._num_hypotheses])
