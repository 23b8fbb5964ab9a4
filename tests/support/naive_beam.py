"""A simple beam search as a reference: it examines every candidate and copies every hypothesis.

It has the same rules for rows, copies and ties as the real beam search, but shares no code with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_service.engine.request import FinishReason, Hypothesis, Normalisation, Request


@dataclass(frozen=True, slots=True)
class _Draft:
    tokens: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    total: float = 0.0
    aligned: tuple[int, ...] = ()

    def plus(self, token: int, score: float, at: int = -1) -> _Draft:
        return _Draft((*self.tokens, token), (*self.scores, score), self.total + score, (*self.aligned, at))


class NaiveBeamSearch:
    """Has the public interface of `support.one_search.OneSearch`, without adjustments."""

    def __init__(self, request: Request, *, begin_id: int, end_id: int) -> None:
        self.request, self.end_id = request, end_id
        self.size = request.options.beam_size
        self.most = int(self.size * request.options.patience)
        self.next_tokens = [begin_id] * self.size
        self.copies: list[tuple[int, int]] = []
        self.done = False
        self.rows: list[_Draft | None] = [_Draft()] + [None] * (self.size - 1)
        self.live = [_Draft()]
        self.finished: list[Hypothesis] = []
        self.identical = True
        self.forced = list(request.forced)

    def advance(
        self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]], aligned: Sequence[int] = ()
    ) -> None:
        at = list(aligned) or [-1] * self.size
        if self.forced:
            self.next_tokens = [self.forced.pop(0)] * self.size
            return
        length, prefix = len(self.live[0].tokens), self.request.target_prefix
        if length < len(prefix):
            self.live = [self.live[0].plus(prefix[length], 0.0)]
            self.rows[0] = self.live[0]
            self.next_tokens = [prefix[length]] * self.size
            return
        children = []
        for row, draft in enumerate(self.rows):
            if draft is not None:
                for rank, (token, score) in enumerate(zip(token_ids[row], log_probs[row], strict=True)):
                    if score > -math.inf:
                        children.append((-(draft.total + score), row, rank, token, score, draft))
        children = sorted(children, key=lambda child: child[:3])[: 2 * self.size]
        may_end = length > 0 or not self.request.options.never_empty
        children = [child for child in children if may_end or child[3] != self.end_id]
        for _, _, _, token, score, draft in children[: self.size]:
            if token == self.end_id:
                self.finish(draft, draft.total + score, len(draft.tokens) + 1, FinishReason.STOP, score)
        going_on = [child for child in children if child[3] != self.end_id][: self.size]
        if going_on:
            self.place([(row, draft.plus(token, score, at[row])) for _, row, _, token, score, draft in going_on])
        if not going_on or length + 1 == self.request.max_length:
            for draft in self.live if going_on or not self.finished else ():
                self.finish(draft, draft.total, len(draft.tokens), FinishReason.LENGTH)
            self.done = True
        else:
            wanted = self.request.options.num_hypotheses
            beaten = [self.bound(self.live[0]) <= hypothesis.score for hypothesis in self.finished]
            self.done = len(beaten) == self.most or sum(beaten) >= wanted

    def place(self, children: Sequence[tuple[int, _Draft]]) -> None:
        rows: list[_Draft | None] = [None] * self.size
        extra = []
        for row, child in children:
            if rows[row] is None:
                rows[row] = child
            else:
                extra.append((row, child))
        free = [row for row in range(self.size) if rows[row] is None]
        copies = []
        for target, (source, child) in zip(free, extra, strict=False):
            rows[target] = child
            copies.append((source, target))
        self.copies = [] if self.identical else copies
        self.identical = False
        self.rows, self.live = rows, [child for _, child in children]
        self.next_tokens = [self.end_id if draft is None else draft.tokens[-1] for draft in rows]

    def finish(self, draft: _Draft, total: float, length: int, reason: FinishReason, end: float = 0.0) -> None:
        score = total / self.penalty(length)
        content = self.request.content
        if content:
            missed = [position for position in content if position not in draft.aligned]
            score -= self.request.options.coverage_penalty * len(missed) / len(content)
        self.finished.append(Hypothesis(draft.tokens, draft.scores, score, reason, end))
        self.finished = sorted(self.finished, key=lambda hypothesis: -hypothesis.score)[: self.most]

    def penalty(self, length: int) -> float:
        is_power = self.request.normalisation is Normalisation.POWER
        base = max(1, length) if is_power else (5 + length) / 6
        return float(base**self.request.options.length_penalty)

    def bound(self, draft: _Draft) -> float:
        return draft.total / self.penalty(self.request.max_length)

    def decided(self, start: int) -> tuple[int, ...]:
        """Tokens from `start` on that are common to all hypotheses that can still win."""
        best = self.finished[0] if self.finished else None
        contenders = [draft.tokens for draft in self.live if best is None or self.bound(draft) > best.score]
        contenders += [best.tokens] if best is not None else []
        length = 0
        while all(
            len(tokens) > length and tokens[: length + 1] == contenders[0][: length + 1] for tokens in contenders
        ):
            length += 1
        return contenders[0][start:length]

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The finished hypotheses, best first."""
        return tuple(self.finished[: 1 if self.request.options.num_hypotheses == 1 else self.size])
