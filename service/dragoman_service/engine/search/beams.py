"""Beam search of one request.

A child is a hypothesis with one more token. It ends if that token is the end of the sentence. A step keeps the best
`size` children that do not end. Each hypothesis has one child that ends, so the `2 * size` best children suffice. A
child that ends finishes its hypothesis if it is among the best `size`. Of equal children, that of the lower place comes
first, then that of the likelier candidate.

The code uses lists, not arrays. A step needs some ten comparisons for each request. Array operations for all requests
are many, and each takes longer than several comparisons: between two runs of a model the processor's caches are cold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heapreplace
from typing import Any, TypeAlias

from dragoman_service.engine.request import FinishReason, Hypothesis, Request
from dragoman_service.engine.search import repetition, scores, utf8
from dragoman_service.engine.search.scores import BANNED
from dragoman_service.engine.search.utf8 import NO_BYTE_PIECES, BytePieces

Child: TypeAlias = tuple[float, int, int]
"""Cost, place of the parent, and index of the candidate."""
Path: TypeAlias = tuple[int, float, int, Any] | None
"""The tokens of a hypothesis, newest first: token, its log-probability, the source position it is aligned to, and the
path before it. Hypotheses share the paths of their ancestors, so none is ever copied."""


class Beam:
    """The hypotheses of a request. Each has a place from 0 to `size - 1`, which is also its row within the request."""

    __slots__ = (
        "_byte_pieces", "_costs", "_finished", "_given", "_length", "_live", "_longest", "_max_length", "_max_penalty",
        "_most_finished", "_never_empty", "_next_check", "_paths", "_prefix", "_request", "_runaways", "_threshold",
        "_wanted", "size",
    )  # fmt: skip

    def __init__(self, request: Request, max_steps: int, byte_pieces: BytePieces = NO_BYTE_PIECES) -> None:
        """Begin with the empty hypothesis at the first place. After `max_steps` steps, all hypotheses are cut."""
        options = request.options
        self.size = options.beam_size
        self._byte_pieces = byte_pieces
        self._wanted = options.num_hypotheses
        self._most_finished = int(self.size * options.patience)
        self._request = request
        self._never_empty = options.never_empty
        self._prefix = request.target_prefix
        self._given = request.forced + request.target_prefix
        self._max_length, self._longest = request.max_length, max_steps - len(request.forced)
        self._max_penalty = scores.length_penalty(self._longest, request)  # of the longest, with its end
        # Tokens of every live hypothesis; below 0 while ids are fed that do not count.
        self._length = -len(request.forced)
        self._live = [0]  # places of live hypotheses, best first
        # By place: minus the sum of log-probabilities, infinity without a hypothesis; and the tokens.
        self._costs = [0.0, *[math.inf] * (self.size - 1)]
        self._paths: list[Path] = [None] * self.size
        self._finished: list[Hypothesis] = []  # best first
        self._runaways: list[Hypothesis] = []  # stopped for repetition; they count only where others are too few
        checked = request.options.stop_repetition
        self._next_check = len(self._prefix) + repetition.FIRST_CHECK if checked else math.inf
        self._threshold = BANNED  # the search ends once no live hypothesis can have a higher score

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The finished hypotheses, best first: one if one is wanted, else all; those that are wanted come first.

        What was stopped for repetition is returned only where there are too few others.
        """
        finished = self._finished[: 1 if self._wanted == 1 else self.size]
        runaways = sorted(self._runaways, key=lambda each: -each.score)
        return tuple(finished + runaways[: max(0, self._wanted - len(finished))])

    def is_lost(self, rows: Sequence[int], log_probs: Sequence[Sequence[float]]) -> bool:
        """Whether a live hypothesis has NaN instead of log-probabilities. For the arguments, see `advance`."""
        return self._length >= len(self._prefix) and any(math.isnan(log_probs[rows[place]][0]) for place in self._live)

    def advance(
        self,
        rows: Sequence[int],
        candidates: Sequence[Sequence[int]],
        log_probs: Sequence[Sequence[float]],
        end_id: int,
        tokens: list[int],
        copies: list[tuple[int, int]],
        aligned: Sequence[int] | None = None,
    ) -> bool:
        """Perform one step.

        Args:
            rows: The rows of the request in the batch, by place.
            candidates: Of every row of the batch, likeliest first. As many are used as there are, at most `2 * size`.
            log_probs: Of these; minus infinity for banned candidates.
            end_id: Token of the end of the sentence.
            tokens: The next token of every row of the batch. Those of `rows` are written.
            copies: Source and target rows whose caches must be copied before the next step are added. No row is both a
                source and a target.
            aligned: The source position that every row of the batch attends to most; None if nobody wants it.

        Returns:
            Whether the search goes on.
        """
        if self._length < len(self._prefix):
            self._give(rows, tokens)
            return True
        going, ends = self._children(rows, candidates, log_probs, end_id)
        for cost, place, index in ends:
            end = log_probs[rows[place]][index]
            chosen = self._chosen(self._paths[place])
            if aligned is not None and self._request.alignments:
                chosen = chosen._replace(alignment=(*chosen.alignment, aligned[rows[place]]))
            self._keep(scores.stopped(chosen, end, -cost, self._request))
        if self._length == self._max_length:  # this step only shows which hypotheses end here
            ended = {place for _, place, _ in ends}
            self._cut(self._paths[place] for place in self._live if place not in ended)
            return False
        if not going:
            if not self._finished:
                self._cut(self._paths[place] for place in self._live)
            return False
        self._grow(going, rows, candidates, log_probs, tokens, copies, aligned)
        if self._length >= self._next_check:
            self._next_check = self._length + repetition.INTERVAL
            self._stop_runaways()
            if not self._live:
                return False
        if len(self._live) < self.size:
            for place, row in enumerate(rows):
                if self._paths[place] is None:
                    tokens[row] = end_id
        if self._length == self._longest:  # no position is left
            self._cut(self._paths[place] for place in self._live)
            return False
        return self._costs[self._live[0]] / -self._max_penalty > self._threshold

    def _give(self, rows: Sequence[int], tokens: list[int]) -> None:
        """Write the next given token."""
        token = self._given[self._length - len(self._prefix)]
        for row in rows:
            tokens[row] = token
        if self._length >= 0:
            self._paths[0] = (token, 0.0, -1, self._paths[0])
        self._length += 1

    def _grow(
        self,
        going: Sequence[Child],
        rows: Sequence[int],
        candidates: Sequence[Sequence[int]],
        log_probs: Sequence[Sequence[float]],
        tokens: list[int],
        copies: list[tuple[int, int]],
        aligned: Sequence[int] | None,
    ) -> None:
        """Make the children the live hypotheses."""
        all_rows_equal = self._length <= len(self._prefix)  # before the first token that is chosen
        taken = _places(going, self.size)
        costs = [math.inf] * self.size
        paths: list[Path] = [None] * self.size
        for (cost, parent, index), place in zip(going, taken, strict=True):
            source, row = rows[parent], rows[place]
            costs[place] = cost
            tokens[row] = token = candidates[source][index]
            at = -1 if aligned is None else aligned[source]
            paths[place] = (token, log_probs[source][index], at, self._paths[parent])
            if place != parent and not all_rows_equal:
                copies.append((source, row))
        self._costs, self._paths, self._live, self._length = costs, paths, taken, self._length + 1

    def live(self) -> list[bool]:
        """By place, whether it has a hypothesis. Before the first token is chosen, all have the same one."""
        if self._length <= len(self._prefix):
            return [True] * self.size
        return [path is not None for path in self._paths]

    def decided(self, start: int) -> list[int]:
        """The tokens, from number `start` on, that the best hypothesis is certain to have."""
        best = self._finished[0] if self._finished else None
        contenders = [
            _newest(self._paths[place], self._length - start)
            for place in self._live
            if best is None or -self._costs[place] / self._max_penalty > best.score
        ]
        if best is not None:
            contenders.append(list(best.tokens[start:]))
        common: list[int] = []
        for tokens in zip(*contenders, strict=False):
            if any(token != tokens[0] for token in tokens):
                break
            common.append(tokens[0])
        return common

    def _children(
        self,
        rows: Sequence[int],
        candidates: Sequence[Sequence[int]],
        log_probs: Sequence[Sequence[float]],
        end_id: int,
    ) -> tuple[list[Child], list[Child]]:
        """The children that go on, at most `size`, and those that end and finish their hypotheses; both best first.

        The candidates of a row are sorted, so the next child is the best of the first ones left of each row.
        """
        size, costs = self.size, self._costs
        width = min(2 * size, len(candidates[0]))
        heads = [(costs[place] - log_probs[rows[place]][0], place, 0) for place in self._live]
        heapify(heads)
        going: list[Child] = []
        ends: list[Child] = []
        for rank in range(2 * size):
            if not heads:
                break
            child = heads[0]
            cost, place, index = child
            if not cost < math.inf:
                break
            row = rows[place]
            token = candidates[row][index]
            if not self._fits(place, token):
                pass
            elif token != end_id:
                going.append(child)
                if len(going) == size:
                    break
            elif rank < size and (self._length or not self._never_empty):
                ends.append(child)
            index += 1
            if index < width:
                heapreplace(heads, (costs[place] - log_probs[row][index], place, index))
            else:
                heappop(heads)
        return going, ends

    def _fits(self, place: int, token: int) -> bool:
        """Whether a token tears no character apart after a live hypothesis."""
        byte_of, path = self._byte_pieces.byte_of, self._paths[place]
        if token not in byte_of and (path is None or path[0] not in byte_of):
            return True
        return self._byte_pieces.fits(_newest(path, min(self._length, utf8.LONGEST)), token)

    def _chosen(self, path: Path) -> scores.Chosen:
        """The tokens of a path, oldest first, and what belongs to them."""
        tokens: list[int] = []
        log_probs: list[float] = []
        alignment: list[int] = []
        while path is not None:
            token, log_prob, at, path = path
            tokens.append(token)
            log_probs.append(log_prob)
            alignment.append(at)
        tokens.reverse()
        log_probs.reverse()
        alignment.reverse()
        return scores.Chosen(tokens, log_probs, alignment if self._request.alignments else ())

    def _cut(self, paths: Iterable[Path]) -> None:
        """Finish live hypotheses as they are."""
        for path in paths:
            self._keep(scores.cut(self._chosen(path), self._request, self._byte_pieces))

    def _stop_runaways(self) -> None:
        """Stop the live hypotheses that repeat themselves without end."""
        for place in self._live[:]:
            chosen = self._chosen(self._paths[place])
            if repetition.is_runaway(chosen.tokens, self._request.source):
                self._runaways.append(scores.cut(chosen, self._request, self._byte_pieces, FinishReason.REPETITION))
                self._live.remove(place)
                self._costs[place], self._paths[place] = math.inf, None

    def _keep(self, hypothesis: Hypothesis) -> None:
        """Add a finished hypothesis if it is among the best. Of equals, the earlier comes first."""
        finished, most = self._finished, self._most_finished
        if len(finished) == most and hypothesis.score <= finished[-1].score:
            return
        finished.append(hypothesis)
        finished.sort(key=lambda each: -each.score)
        del finished[most:]
        if len(finished) == most:
            self._threshold = math.inf
        elif len(finished) >= self._wanted:
            self._threshold = finished[self._wanted - 1].score


def _newest(path: Path, count: int) -> list[int]:
    """The newest tokens of a path, oldest first. Takes time for these alone, not for those before them."""
    tokens: list[int] = []
    for _ in range(count):
        assert path is not None
        token, _, _, path = path
        tokens.append(token)
    tokens.reverse()
    return tokens


def _places(going: Sequence[Child], size: int) -> list[int]:
    """Place each child: the best child of a parent keeps the place of the parent, the others take free places."""
    occupied = {place for _, place, _ in going}
    if len(occupied) == len(going):
        return [place for _, place, _ in going]
    free = iter([place for place in range(size) if place not in occupied])
    taken: list[int] = []
    for _, place, _ in going:
        if place in occupied:
            occupied.remove(place)
            taken.append(place)
        else:
            taken.append(next(free))
    return taken
