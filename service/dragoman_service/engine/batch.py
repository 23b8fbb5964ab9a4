"""The running batch of a lane: its rows as arrays, and the search of each request on its rows.

Work that is the same for all rows is one array operation: feeding, writing a token, greedy choice, ends, limits,
penalties and bans. Python objects of a request are used when it joins, streams or ends.

The tokens of all rows are in a log [steps, rows]. Every row writes its newest token into the same line, so the tokens
of a row at position p are the last p entries of its column.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.engine.plan import NO_ADJUSTMENTS, Adjustments, Join, RowCopy, StepResult
from dragoman_service.engine.request import Finished, Hypothesis, Progress, Request, Timings
from dragoman_service.engine.search import beams, constraints, sampling, scores
from dragoman_service.engine.search.scores import BANNED
from dragoman_service.errors import EngineFailure

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NO_LIMIT = 2**31 - 1
_FEW_ROWS = 16
"""Up to so many values are compared faster as a list than as an array."""
_NAN = "the model returned NaN instead of log-probabilities"


@dataclass(slots=True)
class Waiting:
    """A request in the queue."""

    request: Request
    submitted: float
    """Time of submission in seconds of the engine's clock."""
    streamed: int = 0
    """Number of tokens sent in `Progress` events before, if the request has run before."""


@dataclass(slots=True, eq=False)
class ActiveRequest:
    """A request that owns rows."""

    request: Request
    submitted: float
    rows: list[int]
    streamed: int
    """Number of tokens sent in `Progress` events."""
    beam: bool
    """Whether the request is decoded by beam search."""
    draws: list[sampling.Draws]
    """The random numbers of each row; empty without sampling."""
    max_penalty: float
    """Length penalty of the longest possible hypothesis; 1 without beam search."""
    watched: bool
    """Whether every step must be examined before the next: for beams, sampling, streams, prefixes and constraints."""
    finished: list[Hypothesis] = field(default_factory=list)
    """Finished hypotheses. With a beam: best first, at most the beam size. Else: in the order of ending."""
    threshold: float = BANNED
    """A beam search ends once no live hypothesis can have a higher score than this."""
    next_progress: float = -math.inf
    """Earliest time of the next `Progress` event."""
    queue_seconds: float = 0.0
    encode_seconds: float = 0.0
    encoded: float = 0.0
    """Time at which the encoder had finished."""

    def begin(self, result: StepResult, now: float) -> None:
        """Record the times of the first step, which ended at `now`."""
        self.encode_seconds = result.encode_seconds
        self.encoded = now - result.decode_seconds
        # The maximum is needed because the clock of the runner may differ from that of the engine.
        self.queue_seconds = max(0.0, self.encoded - result.encode_seconds - self.submitted)

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        """The requested number of finished hypotheses, best first. To be called once all have ended."""
        if self.beam:
            return tuple(self.finished[: self.request.options.num_hypotheses])
        return tuple(sorted(self.finished, key=lambda hypothesis: -hypothesis.score))

    def ended(self, now: float) -> Finished:
        """The final event, at `now`."""
        timings = Timings(self.queue_seconds, self.encode_seconds, now - self.encoded)
        return Finished(self.request.id, self.hypotheses(), timings)

    def again(self) -> Waiting:
        """The request, to be run again from its first token. It streams only the tokens that were not sent before."""
        return Waiting(self.request, self.submitted, self.streamed)


@dataclass(slots=True)
class Advance:
    """The requests that ended or failed in a step."""

    ended: list[ActiveRequest] = field(default_factory=list)
    failed: list[tuple[ActiveRequest, EngineFailure]] = field(default_factory=list)


class _Beams:
    """The requests of one beam size, with arrays that are valid while no request joins, leaves or moves."""

    __slots__ = (
        "fresh", "limit", "longest", "max_length", "max_penalty", "prefix", "quiet", "requests", "rows", "threshold",
        "waiting_for_better",
    )  # fmt: skip

    def __init__(self, requests: list[ActiveRequest], lengths: Ints, costs: Floats, max_positions: int) -> None:
        """`lengths` (tokens of the hypotheses) and `costs` are those of all rows of the batch."""
        self.requests = requests
        self.rows = np.array([active.rows for active in requests], np.int64)  # [n, B]
        limits = [
            (active.request.max_length, len(active.request.target_prefix), active.max_penalty, active.threshold)
            for active in requests
        ]
        columns = np.array(limits, np.float64).T
        self.max_length, self.prefix = columns[0].astype(np.int64), columns[1].astype(np.int64)
        self.max_penalty, self.threshold = columns[2], columns[3]
        self.limit = np.minimum(self.max_length + 1, max_positions)
        self.waiting_for_better = any(active.threshold > BANNED for active in requests)
        """Whether a request has enough finished hypotheses and goes on only while a better one is possible."""
        self.look_ahead(lengths[self.rows[:, 0]], costs[self.rows])

    def look_ahead(self, lengths: Ints, costs: Floats) -> None:
        """Compute how many of the next steps are usual ones. `lengths` is [n], `costs` [n, B]."""
        self.longest = int(lengths.max())
        fresh = lengths == self.prefix
        self.fresh = frozenset(fresh.nonzero()[0].tolist())
        """Indices of the requests about to choose their first token. Until then, all their rows are fed the same."""
        full = (costs < math.inf).all(axis=1) | fresh
        usual = bool(full.all()) and bool((lengths >= self.prefix).all())
        self.quiet = int((self.limit - 1 - lengths).min()) if usual else 0
        """Number of next steps in which every row has a hypothesis and none reaches its limit."""


class _Constrained:
    """The rows of requests with penalties or bans."""

    __slots__ = ("min_length", "ngram", "penalised", "penalty", "plain", "prefix", "rows", "sizes")

    def __init__(self, requests: Sequence[ActiveRequest]) -> None:
        each = [(row, active.request) for active in requests for row in active.rows]
        self.rows = np.array([row for row, _ in each], np.int64)
        self.prefix = np.array([len(request.target_prefix) for _, request in each], np.int64)
        self.min_length = np.array([request.options.min_length for _, request in each], np.int64)
        self.ngram = np.array([request.options.no_repeat_ngram_size for _, request in each], np.int64)
        self.penalty = np.array([request.options.repetition_penalty for _, request in each], np.float64)
        self.sizes = sorted(set(self.ngram.tolist()) - {0})
        self.plain = all(len(active.rows) == 1 and not active.request.target_prefix for active in requests)
        """Whether every row has its own hypothesis, and chooses all of its tokens."""
        self.penalised: _Penalties | None = None
        """The penalties of all rows, kept while no request joins, leaves or moves."""


class _Penalties:
    """The penalties of the next step. They grow by the tokens that a row produces for the first time."""

    __slots__ = ("_bias", "_count", "_index", "_penalty")

    def __init__(self, rows: Ints, tokens: Ints, penalty: Floats) -> None:
        self._count = len(rows)
        room = max(256, 2 * len(rows))
        self._index = np.empty((room, 2), np.int64)
        self._penalty, self._bias = np.empty(room, np.float32), np.zeros(room, np.float32)
        self._index[: len(rows), 0], self._index[: len(rows), 1] = rows, tokens
        self._penalty[: len(rows)] = penalty

    def has_room(self, count: int) -> bool:
        """Whether `count` further penalties fit."""
        return self._count + count <= len(self._penalty)

    def add(self, rows: Ints, tokens: Ints, penalty: Floats) -> None:
        """Add penalties for tokens that their rows have produced for the first time."""
        new = slice(self._count, self._count + len(rows))
        self._index[new, 0], self._index[new, 1], self._penalty[new] = rows, tokens, penalty
        self._count = new.stop

    def adjustments(self) -> Adjustments:
        """All penalties."""
        count = self._count
        return Adjustments(self._index[:count], self._penalty[:count], self._bias[:count]) if count else NO_ADJUSTMENTS


class Batch:
    """Rows 0 to `max_rows - 1`, each free or owned by one request.

    A step covers rows 0 to `extent - 1`. The rows of a request that leaves become holes there. Requests that join take
    the lowest holes first, and `close_holes` moves the last rows into the other holes. Rows do not move at other times.
    """

    def __init__(self, max_rows: int, *, begin_id: int, end_id: int, max_positions: int = _NO_LIMIT) -> None:
        """`max_positions` is the number of positions of a row's self-attention cache; a token is fed at each."""
        if max_rows < 1:
            raise ValueError(f"max_rows: got {max_rows}; allowed: 1 or more")
        self.max_rows = max_rows
        self.active: dict[int, ActiveRequest] = {}
        """Request id -> running request, in the order of joining."""
        self.cached_positions = 0
        """Positions in use in the self- and cross-attention caches, summed over the owned rows."""
        self.num_watched = 0
        """Number of requests of which every step must be examined before the next."""
        self._begin_id, self._end_id, self._max_positions = begin_id, end_id, max_positions
        self._owners: list[ActiveRequest | None] = []
        self._holes: list[int] = []
        self._wanted: Counter[int] = Counter()  # candidates wanted per row -> number of requests
        self.tokens = np.zeros(max_rows, np.int64)
        self.positions = np.zeros(max_rows, np.int64)
        self.source_lengths = np.zeros(max_rows, np.int64)
        self._limits = np.full(max_rows, _NO_LIMIT, np.int64)  # position at which the hypothesis of the row is cut
        self._costs = np.zeros(max_rows, np.float64)  # of beams: minus the sum of log-probabilities; inf: no hypothesis
        self._ranks = np.zeros(max_rows, np.int64)  # of beams: rank of the hypothesis in its request; -1: no hypothesis
        self._written = np.zeros(max_rows, np.bool_)  # of several samples: whether this one has ended
        self._distinct = np.zeros((max_rows, 32), np.int64)  # the distinct tokens of each row
        self._num_distinct = np.zeros(max_rows, np.int64)
        self._columns: tuple[npt.NDArray[Any], ...] = ()
        self._log = np.zeros((64, max_rows), np.int64)
        self._log_probs = np.zeros((64, max_rows), np.float64)
        self._line = 0  # line of the log that the next step writes
        self._copies: tuple[Ints, Ints] | None = None  # source and target rows of copies for beams
        self._streams: list[ActiveRequest] = []
        self._prefixed: list[ActiveRequest] = []
        self._sampled: list[ActiveRequest] = []
        self._beams: list[_Beams] = []
        self._constrained: _Constrained | None = None
        self._penalised = False
        self._grouped = True  # whether the groups above are up to date
        self._steps_left = _NO_LIMIT  # lower bound of the steps until a row reaches its limit
        self._clean = True  # whether every row of this step has a candidate that is not banned

    @property
    def extent(self) -> int:
        """One more than the highest row that is owned or a hole."""
        return len(self._owners)

    @property
    def holes(self) -> tuple[int, ...]:
        """Rows below `extent` that no request owns, ascending."""
        return tuple(sorted(self._holes))

    @property
    def num_used(self) -> int:
        """Number of owned rows."""
        return len(self._owners) - len(self._holes)

    @property
    def num_free(self) -> int:
        """Number of rows that are not owned."""
        return self.max_rows - self.num_used

    @property
    def num_candidates(self) -> int:
        """Number of candidates per row that the next step must return."""
        return max(self._wanted)

    def join(self, waiting: Waiting) -> Join:
        """Give rows to a request. Raises ValueError if too few are free."""
        request = waiting.request
        options = request.options
        rows = self._take(options.num_rows)
        draws = []
        if options.sampling is not None:
            seed = options.sampling.seed or 0  # code that makes requests draws a seed if the caller gave none
            draws = [sampling.Draws(seed, request.source, number) for number in range(len(rows))]
        beam, watched = options.beam_size > 1, _is_watched(request)
        max_penalty = _max_penalty(request, self._max_positions) if beam else 1.0
        active = ActiveRequest(request, waiting.submitted, rows, waiting.streamed, beam, draws, max_penalty, watched)
        for row in rows:
            self._owners[row] = active
            self.tokens[row] = self._begin_id
            self.positions[row] = 0
            self.source_lengths[row] = len(request.source)
            self._limits[row] = _NO_LIMIT if beam else min(request.max_length + 1, self._max_positions)
            self._costs[row] = math.inf
            self._ranks[row] = -1 if beam else 0
            self._written[row] = False
            self._num_distinct[row] = 0
        self._steps_left = min(self._steps_left, int(self._limits[rows[0]]))
        self._costs[rows[0]] = 0.0  # all rows of a beam begin with the same hypothesis, which only the first row has
        self._ranks[rows[0]] = 0
        self.active[request.id] = active
        self.num_watched += active.watched
        self._wanted[_candidates(request)] += 1
        self.cached_positions += len(rows) * len(request.source)
        if active.watched:
            self._grouped = False
        return Join(request.source, tuple(rows))

    def leave(self, request_id: int) -> ActiveRequest:
        """Free the rows of a request and return it."""
        active = self.active.pop(request_id)
        rows = active.rows
        for row in rows:
            self._owners[row] = None
        self._holes += rows
        self.num_watched -= active.watched
        wanted = _candidates(active.request)
        self._wanted[wanted] -= 1
        if not self._wanted[wanted]:
            del self._wanted[wanted]
        self.cached_positions -= len(rows) * (int(self.positions[rows[0]]) + len(active.request.source))
        if active.watched:
            self._grouped = False
        if self._copies is not None and active.beam:
            source, target = self._copies
            kept = [place for place, row in enumerate(target.tolist()) if row not in rows]
            self._copies = (source[kept], target[kept]) if kept else None
        return active

    def close_holes(self) -> list[RowCopy]:
        """Move the last rows into the holes; returns the cache copies that this needs.

        No target is the source of another copy, so their order does not matter. Rows of requests that have just joined
        never move, because they took the lowest holes.
        """
        copies: list[RowCopy] = []
        for hole in sorted(self._holes):
            while self._owners and self._owners[-1] is None:
                self._owners.pop()
            if hole >= len(self._owners):
                break
            active = self._owners.pop()
            assert active is not None  # the loop above has removed all holes at the end
            row = len(self._owners)
            self._owners[hole] = active
            active.rows[active.rows.index(row)] = hole
            copies.append(RowCopy(row, hole, int(self.positions[row]), int(self.source_lengths[row])))
            self._move(row, hole)
        self._holes.clear()
        return copies

    def beam_copies(self) -> list[RowCopy]:
        """Cache copies between rows of beams that the next step needs. To be called after `close_holes`."""
        if self._copies is None:
            return []
        source, target = self._copies
        self._copies = None
        lengths = self.positions[source]
        return [RowCopy(*each) for each in zip(source.tolist(), target.tolist(), lengths.tolist(), strict=True)]

    def adjustments(self) -> Adjustments:
        """The changes to the logits of the next step."""
        self._group()
        group = self._constrained
        if group is None:
            return NO_ADJUSTMENTS
        lengths = self.positions[group.rows]
        bans = self._bans(group, group.rows, lengths, group.min_length, group.ngram)
        if group.plain and not len(bans[0]):
            return self._penalties_of(group).adjustments()
        rows_at = ((lengths >= group.prefix) & ~self._written[group.rows] & (self._ranks[group.rows] >= 0)).nonzero()[0]
        rows, lengths = group.rows[rows_at], lengths[rows_at]
        if not len(rows):
            return NO_ADJUSTMENTS
        if not group.plain:
            bans = self._bans(group, rows, lengths, group.min_length[rows_at], group.ngram[rows_at])
        penalised = self._penalised_tokens(rows, group.penalty[rows_at])
        most = max((int(tokens.max()) for tokens in (bans[1], penalised[1]) if len(tokens)), default=0)
        return constraints.adjustments(rows, bans, penalised, group.penalty[rows_at], most)

    def _bans(self, group: _Constrained, rows: Ints, lengths: Ints, min_length: Ints, ngram: Ints) -> tuple[Ints, Ints]:
        """Banned tokens of the next step: index into `rows`, and token."""
        short = lengths < min_length
        parts = [_minimum_length_bans(short, self._end_id)] if np.count_nonzero(short) else []
        for size in group.sizes:
            of_size = np.arange(len(rows)) if len(group.sizes) == 1 and ngram.all() else (ngram == size).nonzero()[0]
            if len(of_size):
                history = self._log[self._line - int(lengths[of_size].max()) : self._line, rows[of_size]]
                column, token = constraints.repeated_ngram_ends(history, lengths[of_size], size)
                parts.append((of_size[column], token))
        if len(parts) == 1:
            return parts[0]
        none = np.zeros(0, np.int64)
        return (
            np.concatenate([none, *(at for at, _ in parts)]),
            np.concatenate([none, *(token for _, token in parts)]),
        )

    def _penalties_of(self, group: _Constrained) -> _Penalties:
        if group.penalised is None:
            at, token = self._penalised_tokens(group.rows, group.penalty)
            group.penalised = _Penalties(group.rows[at], token, group.penalty[at])
        return group.penalised

    def advance(self, token_ids: Any, log_probs: Any) -> Advance:
        """Apply the candidates of one step, [extent, candidates], likeliest first.

        A candidate with log-probability minus infinity is banned and never chosen; it fills up a row with too few
        others. All rows have as many candidates as the request that needs most. A request uses only as many as it
        needs.
        """
        self._group()
        step = Advance()
        token_ids, log_probs = np.asarray(token_ids), np.asarray(log_probs)
        rows = len(self._owners)
        new, log_prob = token_ids[:, 0], log_probs[:, 0]
        self._clean = _all_above(log_prob, BANNED)
        if self._line == len(self._log):
            self._scroll()
        done: list[ActiveRequest] = []
        forced: list[int] = []
        usual = self._advance_quietly(token_ids, log_probs) if self._beams else None
        if usual is not None:
            new, log_prob, done = usual
        elif self._sampled or self._prefixed or self._beams:
            new, log_prob = new.astype(np.int64), log_prob.astype(np.float64)
            if self._sampled:
                self._draw(token_ids, log_probs, new, log_prob)
            if self._prefixed:
                forced = self._force(new, log_prob)
            for group in self._beams:
                done += self._advance_carefully(group, token_ids, log_probs, new, log_prob, step)
                group.look_ahead(self.positions[group.rows[:, 0]] + 1, self._costs[group.rows])
        line = self._line
        self._log[line, :rows] = new
        self._log_probs[line, :rows] = log_prob
        self._line = line + 1
        self.tokens[:rows] = new
        positions = self.positions[:rows]
        positions += 1
        self._steps_left -= 1
        self.cached_positions += rows - len(self._holes)
        if self._steps_left <= 0 or not self._clean or _contains(new, self._end_id):
            self._end_rows(new == self._end_id, log_prob, forced, step)
        step.ended += done
        if self._penalised:
            self._note_distinct(new)
        if self._sampled:
            self.tokens[:rows][self._written[:rows]] = self._end_id  # to be fed; its row has ended
        return step

    def progress(self, now: float, interval: float) -> Iterator[Progress]:
        """Yield events with the tokens of streams that have become final since their previous events.

        A stream gets no event within `interval` seconds of the previous one, because every message costs processor
        time. `last_progress` gives the remaining tokens of a request that has ended.
        """
        self._group()
        for active in self._streams:
            length = int(self.positions[active.rows[0]])
            if now < active.next_progress or length <= active.streamed or active.request.id not in self.active:
                continue
            tokens = self._decided(active, length)
            if tokens:
                active.streamed += len(tokens)
                active.next_progress = now + interval
                yield Progress(active.request.id, tuple(tokens))

    def position(self, active: ActiveRequest) -> int:
        """Number of steps that a request has made, which is also the length of its live hypotheses."""
        return int(self.positions[active.rows[0]])

    # Rows.

    def _take(self, count: int) -> list[int]:
        if not 1 <= count <= self.num_free:
            raise ValueError(f"{count} rows are wanted, {self.num_free} are free")
        self._holes.sort()
        rows = self._holes[:count]
        del self._holes[:count]
        while len(rows) < count:
            rows.append(len(self._owners))
            self._owners.append(None)
        return rows

    def _move(self, row: int, hole: int) -> None:
        for column in (
            self.tokens, self.positions, self.source_lengths, self._limits, self._costs, self._ranks, self._written,
            self._distinct, self._num_distinct,
        ):  # fmt: skip
            column[hole] = column[row]
        lines = slice(self._line - int(self.positions[row]), self._line)
        self._log[lines, hole] = self._log[lines, row]
        self._log_probs[lines, hole] = self._log_probs[lines, row]
        if self._copies is not None:
            for rows in self._copies:
                rows[rows == row] = hole
        self._grouped &= not self.num_watched

    def _scroll(self) -> None:
        """Make room in the log: drop the lines that no row needs, and enlarge it if necessary."""
        kept = int(self.positions[: len(self._owners)].max(initial=0))
        size = max(64, 2 * len(self._log) if 2 * kept > len(self._log) else len(self._log))
        for name in ("_log", "_log_probs"):
            old = getattr(self, name)
            new = np.zeros((size, self.max_rows), old.dtype)
            new[:kept] = old[self._line - kept : self._line]
            setattr(self, name, new)
        self._line = kept

    def _group(self) -> None:
        """Rebuild the groups of requests after one has joined, left or moved."""
        if self._grouped:
            return
        self._grouped = True
        self._streams, self._prefixed, self._sampled = [], [], []
        by_size: dict[int, list[ActiveRequest]] = {}
        constrained: list[ActiveRequest] = []
        for active in self.active.values():
            if not active.watched:
                continue
            request = active.request
            if active.beam:
                by_size.setdefault(len(active.rows), []).append(active)
            elif request.target_prefix:
                self._prefixed.append(active)
            if active.draws:
                self._sampled.append(active)
            if request.stream:
                self._streams.append(active)
            if _is_constrained(request):
                constrained.append(active)
        self._beams = [_Beams(group, self.positions, self._costs, self._max_positions) for group in by_size.values()]
        self._constrained = _Constrained(constrained) if constrained else None
        self._penalised = any(active.request.options.repetition_penalty != 1.0 for active in constrained)

    # Rows with a hypothesis each: greedy search and sampling.

    def _draw(self, token_ids: npt.NDArray[Any], log_probs: npt.NDArray[Any], new: Ints, log_prob: Floats) -> None:
        """Draw the next tokens of sampled rows, and write them into `new` and `log_prob`."""
        drawing = [
            (row, active.request.options.sampling, draws.at(int(self.positions[row])))
            for active in self._sampled
            for row, draws in zip(active.rows, active.draws, strict=True)
            if not self._written[row] and log_prob[row] > BANNED
        ]
        if not drawing:
            return
        rows = np.array([row for row, _, _ in drawing], np.int64)
        settings = sampling.Settings([options for _, options, _ in drawing if options is not None])
        width = int(settings.top_k.max())
        uniform = np.array([number for _, _, number in drawing])
        drawn = sampling.pick(log_probs[:, :width][rows].astype(np.float64), settings, uniform)
        new[rows] = token_ids[rows, drawn]
        log_prob[rows] = log_probs[rows, drawn]

    def _force(self, new: Ints, log_prob: Floats) -> list[int]:
        """Write the next token of forced prefixes into `new` and `log_prob`; returns the rows."""
        forced: list[int] = []
        for active in self._prefixed:
            prefix, position = active.request.target_prefix, self.position(active)
            if position < len(prefix):
                forced += active.rows
                for row in active.rows:
                    new[row], log_prob[row] = prefix[position], 0.0
        return forced

    def _end_rows(
        self, is_end: npt.NDArray[np.bool_], log_prob: npt.NDArray[Any], forced: Sequence[int], step: Advance
    ) -> None:
        """Finish the hypotheses of rows that chose the end of sentence, reached their limit, or have no candidate."""
        rows = len(is_end)
        left = self._limits[:rows] - self.positions[:rows]
        ended = is_end | (left <= 0) | ~(log_prob > BANNED)  # NaN too
        ended[list(forced)] = False
        ended &= ~self._written[:rows]
        for group in self._beams:
            ended[group.rows] = False
        self._steps_left = int(left.min(initial=_NO_LIMIT, where=left > 0))
        for row in ended.nonzero()[0].tolist():
            active = self._owners[row]
            if active is None:
                continue
            last = float(log_prob[row])
            if math.isnan(last):
                if not any(failed is active for failed, _ in step.failed):
                    step.failed.append((active, EngineFailure(_NAN)))
                continue
            tokens, token_scores = self._tokens_of(row, int(self.positions[row]))
            request, alpha = active.request, active.request.options.length_penalty
            if last > BANNED and tokens[-1] == self._end_id:
                hypothesis = scores.stopped(tokens[:-1], token_scores[:-1], scores.total(token_scores), alpha)
            else:
                kept = len(tokens) - 1 if last == BANNED else request.max_length
                hypothesis = scores.cut(tokens[:kept], token_scores[:kept], alpha)
            active.finished.append(hypothesis)
            if len(active.finished) == len(active.rows):
                step.ended.append(active)
            else:
                self._written[row] = True

    def _tokens_of(self, row: int, length: int) -> tuple[list[int], list[float]]:
        """The last `length` tokens of a row and their log-probabilities."""
        lines = slice(self._line - length, self._line)
        return self._log[lines, row].tolist(), self._log_probs[lines, row].tolist()

    # Beams.

    def _advance_quietly(
        self, token_ids: npt.NDArray[Any], log_probs: npt.NDArray[Any]
    ) -> tuple[Ints, Floats, list[ActiveRequest]] | None:
        """Perform a usual step of all beams, beside rows that are searched greedily.

        Returns the token of every row, its log-probability, and the requests that have ended. Returns None and changes
        nothing if the step is not usual for one of the requests.
        """
        width = 2 * max(group.rows.shape[1] for group in self._beams)
        mixed = self._sampled or self._prefixed
        # Tiny vocabularies have too few candidates.
        if mixed or not self._clean or token_ids.shape[1] < width or any(group.quiet <= 0 for group in self._beams):
            return None
        costs = self._costs.tolist()
        tokens, likely = token_ids[:, :width].tolist(), log_probs[:, :width].tolist()
        steps = []
        for group in self._beams:
            for index, active in enumerate(group.requests):
                step = beams.usual_step(active.rows, costs, tokens, likely, self._end_id)
                if step is None:
                    return None
                steps.append((group, index, active, *step))
        for group, index, active, _, ends in steps:
            if ends:
                self._finish_usual(active, ends)
                group.threshold[index] = active.threshold
                group.waiting_for_better |= active.threshold > BANNED
        new, log_prob = [row[0] for row in tokens], [row[0] for row in likely]
        done: list[ActiveRequest] = []
        sources: list[int] = []
        targets: list[int] = []
        for group, index, active, children, _ in steps:
            for rank, (target, source, token, child_log_prob, cost) in enumerate(children):
                new[target], log_prob[target] = token, child_log_prob
                self._costs[target], self._ranks[target] = cost, rank
                if target != source and index not in group.fresh:
                    sources.append(source)
                    targets.append(target)
            if group.waiting_for_better and children[0].cost / -active.max_penalty <= active.threshold:
                done.append(active)
        if sources:
            longest = max(group.longest for group in self._beams)
            self._copy_hypotheses(np.array(sources, np.int64), np.array(targets, np.int64), longest)
        for group in self._beams:
            group.quiet -= 1
            group.longest += 1
            group.fresh = frozenset()
        return np.array(new, np.int64), np.array(log_prob, np.float64), done

    def _finish_usual(self, active: ActiveRequest, ends: Sequence[tuple[int, float]]) -> None:
        """Finish the hypotheses of rows that have chosen the end of the sentence; each has its cost beside it."""
        for row, cost in ends:
            tokens, token_scores = self._tokens_of(row, self.position(active))
            _keep(active, scores.stopped(tokens, token_scores, -cost, active.request.options.length_penalty))

    def _advance_carefully(
        self,
        group: _Beams,
        token_ids: npt.NDArray[Any],
        log_probs: npt.NDArray[Any],
        new: Ints,
        log_prob: Floats,
        step: Advance,
    ) -> list[ActiveRequest]:
        """Perform any step."""
        rows, lengths = group.rows, self.positions[group.rows[:, 0]]
        beam_size = rows.shape[1]
        searching = np.arange(len(rows))
        if group.prefix.any():
            forced = lengths < group.prefix
            for index in forced.nonzero()[0].tolist():
                new[rows[index]] = group.requests[index].request.target_prefix[int(lengths[index])]
                log_prob[rows[index]] = 0.0
            searching = (~forced).nonzero()[0]
            if not len(searching):
                return []
            rows, lengths = rows[searching], lengths[searching]
        width = 2 * beam_size
        costs, row_log_probs = self._costs[rows], log_probs[:, :width][rows]
        found = beams.children(costs, token_ids[:, :width][rows], row_log_probs, self._end_id)
        lost = np.zeros(len(rows), np.bool_)
        if not self._clean:
            lost = (np.isnan(row_log_probs[:, :, 0]) & (costs < math.inf)).any(axis=1)
            for index in lost.nonzero()[0].tolist():
                step.failed.append((group.requests[searching[index]], EngineFailure(_NAN)))
        over = lengths == group.max_length[searching]  # this step only shows which hypotheses end here
        grown = (found.going > 0) & ~over & ~lost
        done = ~grown & ~lost
        finishing = found.ends.any(axis=1) & ~lost | done
        for index in finishing.nonzero()[0].tolist() if np.count_nonzero(finishing) else ():
            active = group.requests[searching[index]]
            self._finish_ended(active, found, index, rows[index], int(lengths[index]))
            group.threshold[searching[index]] = active.threshold
            group.waiting_for_better |= active.threshold > BANNED
            if not grown[index] and (over[index] or not active.finished):
                ended = found.end_source[index][found.ends[index]] if over[index] else ()
                self._finish_live(active, int(lengths[index]), set(ended))
        self._place_children(rows, lengths, found, grown, group.prefix[searching], new, log_prob)
        capped = grown & (lengths + 1 == group.limit[searching])
        for index in capped.nonzero()[0].tolist() if np.count_nonzero(capped) else ():
            self._finish_placed(group.requests[searching[index]], rows[index], int(lengths[index]), new, log_prob)
        bound = found.cost[:, 0] / -group.max_penalty[searching]
        done |= capped | (grown & (bound <= group.threshold[searching]))
        return [group.requests[searching[index]] for index in done.nonzero()[0].tolist()]

    def _finish_ended(self, active: ActiveRequest, found: beams.Children, index: int, rows: Ints, length: int) -> None:
        """Finish the hypotheses that have chosen the end of the sentence in this step, best first."""
        for rank in found.ends[index].nonzero()[0].tolist():
            row = int(rows[found.end_source[index, rank]])
            tokens, token_scores = self._tokens_of(row, length)
            alpha = active.request.options.length_penalty
            _keep(active, scores.stopped(tokens, token_scores, -float(found.end_cost[index, rank]), alpha))

    def _finish_live(self, active: ActiveRequest, length: int, ended: set[int]) -> None:
        """Finish the live hypotheses as they are, best first, except those of the rows in `ended`."""
        live = [(int(self._ranks[row]), row) for number, row in enumerate(active.rows) if number not in ended]
        for rank, row in sorted(live):
            if rank >= 0:
                tokens, token_scores = self._tokens_of(row, length)
                _keep(active, scores.cut(tokens, token_scores, active.request.options.length_penalty))

    def _finish_placed(self, active: ActiveRequest, rows: Ints, length: int, new: Ints, log_prob: Floats) -> None:
        """Finish the hypotheses of this step, because no position is left."""
        for _, row in sorted((int(self._ranks[row]), row) for row in rows.tolist()):
            if self._ranks[row] < 0:
                continue
            tokens, token_scores = self._tokens_of(row, length)
            tokens.append(int(new[row]))
            token_scores.append(float(log_prob[row]))
            _keep(active, scores.cut(tokens, token_scores, active.request.options.length_penalty))

    def _place_children(
        self,
        rows: Ints,
        lengths: Ints,
        found: beams.Children,
        grown: npt.NDArray[np.bool_],
        prefix: Ints,
        new: Ints,
        log_prob: Floats,
    ) -> None:
        """Make the children the live hypotheses of their requests, and copy the histories of those that change rows."""
        placement = beams.place(found.source, found.going)
        moved = placement.moved & grown[:, None]
        if np.count_nonzero(moved):
            request, child = moved.nonzero()
            source = rows[request, found.source[request, child]]
            target = rows[request, placement.target[request, child]]
            differ = lengths[request] > prefix[request]  # until then, all rows of a request are fed the same tokens
            self._copy_distinct(source[~differ], target[~differ])
            self._copy_hypotheses(source[differ], target[differ], int(lengths.max()))
        if found.going.min() == rows.shape[1] and np.count_nonzero(grown) == len(grown):
            there = rows[np.arange(len(rows))[:, None], placement.target]
            token, child_log_prob, cost = found.token, found.log_prob, found.cost
            rank: Ints = np.arange(rows.shape[1])
        else:
            all_rows = rows[grown].ravel()
            new[all_rows], log_prob[all_rows] = self._end_id, 0.0
            self._costs[all_rows], self._ranks[all_rows] = math.inf, -1
            request, rank = ((np.arange(rows.shape[1]) < found.going[:, None]) & grown[:, None]).nonzero()
            there = rows[request, placement.target[request, rank]]
            token, child_log_prob = found.token[request, rank], found.log_prob[request, rank]
            cost = found.cost[request, rank]
        new[there], log_prob[there], self._costs[there], self._ranks[there] = token, child_log_prob, cost, rank

    def _copy_hypotheses(self, source: Ints, target: Ints, longest: int) -> None:
        """Copy the hypotheses of rows to other rows: the history now, the caches before the next step.

        No hypothesis is longer than `longest`.
        """
        self._copy_distinct(source, target)
        if self._copies is not None:
            sources, targets = self._copies
            self._copies = np.concatenate((sources, source)), np.concatenate((targets, target))
        elif len(source):
            self._copies = (source, target)
        lines = slice(self._line - longest, self._line)
        self._log[lines, target] = self._log[lines, source]
        self._log_probs[lines, target] = self._log_probs[lines, source]

    def _copy_distinct(self, source: Ints, target: Ints) -> None:
        if self._penalised:
            self._distinct[target] = self._distinct[source]
            self._num_distinct[target] = self._num_distinct[source]

    # Constraints and streams.

    def _penalised_tokens(self, rows: Ints, penalty: Floats) -> tuple[Ints, Ints]:
        """All tokens that rows with a penalty have produced: index into `rows`, and token."""
        (at,) = (penalty != 1.0).nonzero()
        counts = self._num_distinct[rows[at]]
        width = int(counts.max(initial=0))
        if not width:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        index, column = (np.arange(width) < counts[:, None]).nonzero()
        return at[index], self._distinct[rows[at[index]], column]

    def _note_distinct(self, new: npt.NDArray[Any]) -> None:
        """Add the newest token of every row with penalties or bans to the distinct tokens of the row."""
        group = self._constrained
        assert group is not None
        rows = group.rows
        counts, tokens = self._num_distinct[rows], new[rows]
        width = int(counts.max(initial=0))
        if width == self._distinct.shape[1]:
            self._distinct = np.concatenate((self._distinct, np.zeros_like(self._distinct)), axis=1)
        known = self._distinct[rows, :width] == tokens[:, None]
        known &= np.arange(width) < counts[:, None]
        fresh = np.flatnonzero(~known.any(axis=1))
        self._distinct[rows[fresh], counts[fresh]] = tokens[fresh]
        self._num_distinct[rows[fresh]] += 1
        if group.penalised is not None:
            penalised = fresh[group.penalty[fresh] != 1.0]
            if group.penalised.has_room(len(penalised)):
                group.penalised.add(rows[penalised], tokens[penalised], group.penalty[penalised])
            else:
                group.penalised = None

    def _decided(self, active: ActiveRequest, length: int) -> list[int]:
        """The tokens, after those already sent, that the best hypothesis is certain to have."""
        start = active.streamed
        if not active.beam:
            # Which of several samples is the best one is known only at the end.
            return self._tokens_of(active.rows[0], length - start)[0] if len(active.rows) == 1 else []
        best = active.finished[0] if active.finished else None
        max_penalty = active.max_penalty
        contenders = [
            self._tokens_of(row, length - start)[0]
            for row in active.rows
            if self._ranks[row] >= 0 and (best is None or -self._costs[row] / max_penalty > best.score)
        ]
        if best is not None:
            contenders.append(list(best.tokens[start:]))
        common: list[int] = []
        for tokens in zip(*contenders, strict=False):
            if any(token != tokens[0] for token in tokens):
                break
            common.append(tokens[0])
        return common


def _all_above(values: npt.NDArray[Any], bound: float) -> bool:
    """Whether all values are above a bound; NaN is not."""
    if len(values) <= _FEW_ROWS:
        return all(value > bound for value in values.tolist())
    return bool(np.count_nonzero(values > bound) == len(values))


def _contains(values: npt.NDArray[Any], wanted: int) -> bool:
    if len(values) <= _FEW_ROWS:
        return wanted in values.tolist()
    return bool(np.count_nonzero(values == wanted))


def last_progress(active: ActiveRequest) -> list[Progress]:
    """The tokens of the best hypothesis that were not sent, for a stream that has ended; at most one event."""
    tokens = active.hypotheses()[0].tokens[active.streamed :]
    return [Progress(active.request.id, tokens)] if tokens else []


def _keep(active: ActiveRequest, hypothesis: Hypothesis) -> None:
    """Add a finished hypothesis to those of a beam if it is among the best. Of equals, the earlier comes first."""
    finished, beam_size = active.finished, len(active.rows)
    if len(finished) == beam_size and hypothesis.score <= finished[-1].score:
        return
    finished.append(hypothesis)
    finished.sort(key=lambda each: -each.score)
    del finished[beam_size:]
    wanted = active.request.options.num_hypotheses
    if len(finished) == beam_size:
        active.threshold = math.inf
    elif len(finished) >= wanted:
        active.threshold = finished[wanted - 1].score


def _candidates(request: Request) -> int:
    """Number of candidates that a request needs for each of its rows."""
    options = request.options
    if options.sampling is not None:
        return options.sampling.top_k
    return 2 * options.beam_size if options.beam_size > 1 else 1


def _max_penalty(request: Request, max_positions: int) -> float:
    """Length penalty of the longest possible hypothesis, with its end."""
    return scores.length_penalty(min(request.max_length + 1, max_positions), request.options.length_penalty)


def _is_watched(request: Request) -> bool:
    options = request.options
    searching = options.beam_size > 1 or options.sampling is not None
    return searching or request.stream or bool(request.target_prefix) or _is_constrained(request)


def _is_constrained(request: Request) -> bool:
    options = request.options
    return options.min_length > 0 or options.no_repeat_ngram_size > 0 or options.repetition_penalty != 1.0


def _minimum_length_bans(too_short: npt.NDArray[np.bool_], end_id: int) -> tuple[Ints, Ints]:
    """Bans of the end of the sentence in rows that are too short: index into the rows, and token."""
    (at,) = too_short.nonzero()
    return at, np.full(len(at), end_id, np.int64)
