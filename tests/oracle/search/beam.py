"""Beam search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heapreplace

from dragoman_service.engine.request import FinishReason, Hypothesis, Request
from oracle.plan import Adjustment, Mask
from oracle.search.base import BANNED, Search, has_candidate, length_penalty
from oracle.search.constraints import Constraints


class _Node:
    """A hypothesis as its last token and a link to the one that it extends: siblings share what they begin with."""

    __slots__ = ("log_prob", "parent", "token", "total")

    def __init__(self, parent: _Node | None, token: int, log_prob: float, total: float) -> None:
        self.parent = parent
        self.token = token
        self.log_prob = log_prob
        self.total = total
        """Sum of log-probabilities from the beginning."""

    def last(self, count: int) -> list[_Node]:
        """The nodes of the last `count` tokens, in order."""
        nodes: list[_Node] = []
        node: _Node | None = self
        for _ in range(count):
            assert node is not None
            nodes.append(node)
            node = node.parent
        nodes.reverse()
        return nodes


class BeamSearch(Search):
    """Keeps the `beam_size` likeliest hypotheses, one per row, and collects those that end.

    Per position, children are looked at until `beam_size` go on: as each hypothesis has one end of the sentence, these
    are among the `2 * beam_size` best. Ends among the first `beam_size` finish a hypothesis. The search is over when
    `beam_size` have finished, as in fairseq and CTranslate2; or before, once no live one can still be among the
    `num_hypotheses` best; or at `max_length`.
    """

    __slots__ = (
        "_beam_size", "_constraints", "_end_id", "_fed", "_finished", "_identical", "_length", "_live", "_max_length",
        "_max_penalty", "_num_hypotheses", "_prefix", "_request", "_rows",
    )  # fmt: skip

    def __init__(self, request: Request, *, begin_id: int, end_id: int) -> None:
        options = request.options
        self._beam_size = options.beam_size
        self.num_candidates = 2 * options.beam_size
        self.next_tokens = [begin_id] * options.beam_size
        self.copies = []
        self.demanding = True
        self.feeds_likeliest = False
        self.done = False
        self._num_hypotheses = options.num_hypotheses
        self._constraints = Constraints(request, end_id)
        self._request = request
        self._fed = 0  # of the forced ids
        self._prefix = request.target_prefix
        self._max_length = request.max_length
        self._max_penalty = length_penalty(request.max_length + 1, request)  # its end counts
        self._end_id = end_id
        root = _Node(None, begin_id, 0.0, 0.0)
        self._rows: list[_Node | None] = [root] + [None] * (options.beam_size - 1)
        self._live = [root]  # best first
        self._length = 0  # tokens of each live hypothesis
        self._identical = True  # all rows have been fed the same tokens, those without a hypothesis too
        self._finished: list[Hypothesis] = []  # best first, at most beam_size

    def adjustments(self, rows: Sequence[int]) -> Sequence[Adjustment]:
        if not self._constraints.active or self._length < len(self._prefix) or self._fed < len(self._request.forced):
            return ()
        return [
            adjustment
            for row, node in zip(rows, self._rows, strict=True)
            if node is not None
            for adjustment in self._constraints.adjustments(row, [each.token for each in node.last(self._length)])
        ]

    def masks(self, rows: Sequence[int]) -> dict[int, Mask]:
        if self._length < len(self._prefix) or self._fed < len(self._request.forced):
            return {}
        return {
            row: mask
            for row, node in zip(rows, self._rows, strict=True)
            if node is not None and (mask := self._constraints.mask([each.token for each in node.last(self._length)]))
        }

    def advance(  # noqa: PLR0912
        self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]
    ) -> None:
        if self._fed < len(self._request.forced):
            self.next_tokens = [self._request.forced[self._fed]] * self._beam_size
            self._fed += 1
            return
        if self._length < len(self._prefix):
            self._force(self._prefix[self._length])
            return
        over = self._length == self._max_length  # this step was made only to see who ends
        gone = set()
        going_on: list[tuple[int, _Node]] = []
        for index, (row, child) in enumerate(self._children(token_ids, log_probs)):
            if child.token != self._end_id:
                going_on.append((row, child))
                if len(going_on) == self._beam_size:
                    break
            elif index < self._beam_size:
                assert child.parent is not None
                self._finish(child.parent, child.total, self._length + 1, FinishReason.STOP, child.log_prob)
                gone.add(id(child.parent))
        if over:
            for node in self._live:
                if id(node) not in gone:
                    self._finish(node, node.total, self._length, FinishReason.LENGTH)
            self.done = True
            return
        if going_on:
            self._place(going_on)
        if not going_on:
            # Without children, everything but the end was banned: what there is ends here, incomplete.
            for node in self._live if going_on or not self._finished else ():
                self._finish(node, node.total, self._length, FinishReason.LENGTH)
            self.done = True
        elif len(self._finished) == self._beam_size:
            self.done = True
        elif len(self._finished) >= self._num_hypotheses:
            self.done = self._bound(self._live[0]) <= self._finished[self._num_hypotheses - 1].score

    def _force(self, token: int) -> None:
        """Write the next token of the prefix; there is one live hypothesis, in row 0."""
        (before,) = self._live
        self._rows[0] = node = _Node(before, token, 0.0, before.total)
        self._live = [node]
        self._length += 1
        self.next_tokens = [token] * self._beam_size

    def _children(
        self, token_ids: Sequence[Sequence[int]], log_probs: Sequence[Sequence[float]]
    ) -> Iterator[tuple[int, _Node]]:
        """All children of the live hypotheses with their parents' rows, best first; ties by row, then by candidate.

        Rows come sorted, so the next one is the best of the rows' heads, and whoever stops early pays for no more.
        """
        parents = self._rows
        heads = [
            (-(parent.total + log_probs[row][0]), row, 0)
            for row, parent in enumerate(parents)
            if parent is not None and has_candidate(log_probs[row])
        ]
        heapify(heads)
        while heads:
            cost, row, rank = heads[0]
            parent, scores = parents[row], log_probs[row]
            assert parent is not None
            yield row, _Node(parent, token_ids[row][rank], scores[rank], -cost)
            rank += 1
            if rank < len(scores) and scores[rank] > BANNED:
                heapreplace(heads, (-(parent.total + scores[rank]), row, rank))
            else:
                heappop(heads)

    def _place(self, children: Sequence[tuple[int, _Node]]) -> None:
        """Make the children the live hypotheses: the best child stays in its parent's row, the others need copies.

        A row that keeps a child is never written to, and only such rows are copied from: any order of copies is good.
        """
        rows: list[_Node | None] = [None] * self._beam_size
        extra: list[tuple[int, _Node]] = []
        for row, child in children:
            if rows[row] is None:
                rows[row] = child
            else:
                extra.append((row, child))
        self.copies = []
        if extra:
            # Fewer children than rows come only from a tiny vocabulary or many bans; then some rows stay empty.
            free = [row for row, occupant in enumerate(rows) if occupant is None]
            for target, (source, child) in zip(free, extra, strict=False):
                rows[target] = child
                if not self._identical:
                    self.copies.append((source, target))
        self._identical = False
        self._rows = rows
        self._live = [child for _, child in children]
        self._length += 1
        self.next_tokens = [self._end_id if child is None else child.token for child in rows]

    def _finish(self, node: _Node, total: float, length: int, reason: FinishReason, end: float = 0.0) -> None:
        """Keep a finished hypothesis if it is among the best; `total` and `length` are what its score is made of."""
        score = total / length_penalty(length, self._request)
        if len(self._finished) == self._beam_size and score <= self._finished[-1].score:
            return  # of equals, the earlier one stays ahead
        nodes = node.last(self._length)
        tokens, scores = tuple(each.token for each in nodes), tuple(each.log_prob for each in nodes)
        self._finished.append(Hypothesis(tokens, scores, score, reason, end))
        self._finished.sort(key=lambda finished: -finished.score)  # stable
        del self._finished[self._beam_size :]

    def _bound(self, node: _Node) -> float:
        """The best score that any continuation can get: no further loss, and the longest possible translation."""
        return node.total / self._max_penalty

    def decided(self, start: int) -> tuple[int, ...]:
        best = self._finished[0] if self._finished else None
        contenders = [
            [each.token for each in node.last(self._length - start)]
            for node in self._live
            if best is None or self._bound(node) > best.score
        ]
        if best is not None:
            contenders.append(list(best.tokens[start:]))
        common: list[int] = []
        for tokens in zip(*contenders, strict=False):
            if any(token != tokens[0] for token in tokens):
                break
            common.append(tokens[0])
        return tuple(common)

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        return tuple(self._finished[: 1 if self._num_hypotheses == 1 else self._beam_size])
