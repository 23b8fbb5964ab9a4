"""The running batch of a lane: its rows as arrays, and the search of each request on its rows.

Work that is the same for all rows is one array operation: feeding, writing a token, greedy choice, ends, limits,
penalties and bans. Python objects of a request are used when it joins, streams or ends.

Beams are an exception: they choose in lists, request by request (see `search.beams` for the reason).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.engine.active_request import ActiveRequest, Waiting
from dragoman_service.engine.constrained_rows import ConstrainedRows
from dragoman_service.engine.plan import NO_ADJUSTMENTS, NO_MASKS, Adjustments, Join, Masks, RowCopy
from dragoman_service.engine.request import FinishReason, Hypothesis, Progress
from dragoman_service.engine.restrictions import NotFirst, Restriction
from dragoman_service.engine.search import repetition, sampling, scores, utf8
from dragoman_service.engine.search.scores import BANNED
from dragoman_service.engine.search.utf8 import NO_BYTE_PIECES, BytePieces, WholeCharacters
from dragoman_service.engine.token_log import TokenLog
from dragoman_service.errors import EngineFailure

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_NO_LIMIT = 2**31 - 1
_FEW_ROWS = 16
"""Up to so many values are compared faster as a list than as an array."""
_NAN = "the model returned NaN instead of log-probabilities"


@dataclass(slots=True)
class Advance:
    """The requests that ended, failed or must run again after a step."""

    ended: list[ActiveRequest] = field(default_factory=list)
    failed: list[tuple[ActiveRequest, EngineFailure]] = field(default_factory=list)
    rejected: dict[int, tuple[ActiveRequest, Restriction]] = field(default_factory=dict)
    """Requests without a beam that chose a token which may not come, and what forbids it; by their ids. They run again,
    restricted: most requests never choose such a token, and pay nothing."""


class Batch:
    """Rows 0 to `max_rows - 1`, each free or owned by one request.

    A step covers rows 0 to `extent - 1`. The rows of a request that leaves become holes there. Requests that join take
    the lowest holes first, and `close_holes` moves the last rows into the other holes. Rows do not move at other times.
    """

    def __init__(
        self,
        max_rows: int,
        *,
        begin_id: int,
        end_id: int,
        max_positions: int = _NO_LIMIT,
        vocab_size: int = 0,
        byte_pieces: BytePieces = NO_BYTE_PIECES,
    ) -> None:
        """`max_positions` is the number of positions of a row's self-attention cache; a token is fed at each.

        `vocab_size` is needed by requests that are restricted. `byte_pieces` are those of the vocabulary.
        """
        if max_rows < 1:
            raise ValueError(f"max_rows: got {max_rows}; allowed: 1 or more")
        self.max_rows = max_rows
        self.active: dict[int, ActiveRequest] = {}
        """Request id -> running request, in the order of joining."""
        self.cached_positions = 0
        """Positions in use in the self- and cross-attention caches, summed over the owned rows."""
        self.rows_of: Counter[str] = Counter()
        """Client -> rows of its requests."""
        self.num_watched = 0
        """Number of requests of which every step must be examined before the next."""
        self._begin_id, self._end_id, self._max_positions = begin_id, end_id, max_positions
        self._owners: list[ActiveRequest | None] = []
        self._holes: list[int] = []
        self._wanted: Counter[int] = Counter()  # candidates wanted per row -> number of requests that are not wide
        self.tokens = np.zeros(max_rows, np.int64)
        self.positions = np.zeros(max_rows, np.int64)
        self.source_lengths = np.zeros(max_rows, np.int64)
        self._limits = np.full(max_rows, _NO_LIMIT, np.int64)  # position at which the row is cut, or checked
        self._live = np.ones(max_rows, np.bool_)  # whether the row has a hypothesis that grows
        self._log = TokenLog(max_rows)
        self._constrained = ConstrainedRows(max_rows, end_id, vocab_size)
        self._copies: list[tuple[int, int]] = []  # source and target rows, for beams
        self._streams: list[ActiveRequest] = []
        self._given: list[ActiveRequest] = []  # those without a beam whose next id is given
        self._sampled: list[ActiveRequest] = []
        self._beams: list[ActiveRequest] = []
        self._wide: list[ActiveRequest] = []
        self._loosening: list[ActiveRequest] = []  # those that will be constrained no more
        self._byte_pieces = byte_pieces
        self._in_bytes = False  # whether the newest token of a row is a byte piece
        self._aligning = 0  # number of requests that want alignments
        self._has_alignments = False  # whether the model has returned those of this step
        self._steps = 0  # made so far
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
        """Number of candidates of each row that is not wide, in the next step."""
        return max(self._wanted, default=1)

    @property
    def wide_rows(self) -> list[int]:
        """Rows whose candidates are searched apart."""
        return [row for active in self._wide for row in active.rows]

    @property
    def num_wide_candidates(self) -> int:
        """Number of candidates of each wide row, in the next step."""
        return max((active.num_candidates for active in self._wide), default=0)

    def join(self, waiting: Waiting) -> Join:
        """Give rows to a request. Raises ValueError if too few are free."""
        request = waiting.request
        rows = self._take(request.options.num_rows)
        active = ActiveRequest(waiting, rows, self._steps, self._max_positions, self._byte_pieces)
        for row in rows:
            self._owners[row] = active
            self.tokens[row] = self._begin_id
            self.positions[row] = 0
            self.source_lengths[row] = len(request.source)
            self._limits[row] = active.first_check if active.beam is None else _NO_LIMIT
            self._live[row] = True
        if active.beam is None:
            self._steps_left = min(self._steps_left, active.first_check)
        self.active[request.id] = active
        self.rows_of[request.client] += len(rows)
        self.num_watched += active.watched
        self._aligning += request.alignments
        if not active.wide:
            self._wanted[active.num_candidates] += 1
        self.cached_positions += len(rows) * len(request.source)
        for group in self._groups_of(active):
            group.append(active)
        if active.constrained:
            self._constrained.add(active)
        return Join(request.source, tuple(rows))

    def leave(self, request_id: int) -> ActiveRequest:
        """Free the rows of a request and return it."""
        active = self.active.pop(request_id)
        rows = active.rows
        for row in rows:
            self._owners[row] = None
        self._holes += rows
        client = active.request.client
        self.rows_of[client] -= len(rows)
        if not self.rows_of[client]:
            del self.rows_of[client]
        self.num_watched -= active.watched
        self._aligning -= active.request.alignments
        if not active.wide:
            wanted = active.num_candidates
            self._wanted[wanted] -= 1
            if not self._wanted[wanted]:
                del self._wanted[wanted]
        self.cached_positions -= len(rows) * (self.position(active) + len(active.request.source))
        for group in self._groups_of(active):
            group.remove(active)
        if active.constrained:
            self._constrained.remove(active)
        if active.beam is not None and self._copies:
            self._copies = [copy for copy in self._copies if copy[1] not in rows]
        return active

    def _groups_of(self, active: ActiveRequest) -> Iterator[list[ActiveRequest]]:
        """The lists of the requests that a step treats in the same way as this one."""
        if not active.watched:
            return
        if active.beam is not None:
            yield self._beams
        elif active.in_given:
            yield self._given
        if active.draws:
            yield self._sampled
        if active.wide:
            yield self._wide
        if active.request.stream:
            yield self._streams
        if active.constrained and active.constrained_steps < math.inf:
            yield self._loosening

    def close_holes(self) -> list[RowCopy]:
        """Move the last rows into the holes; returns the cache copies that this needs.

        No target is the source of another copy, so their order does not matter. Rows of requests that have just joined
        never move, because they took the lowest holes.
        """
        copies: list[RowCopy] = []
        holes, self._holes = sorted(self._holes), []  # first, as other threads read `num_used`
        for hole in holes:
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
        return copies

    def beam_copies(self) -> list[RowCopy]:
        """Cache copies between rows of beams that the next step needs. To be called after `close_holes`."""
        copies, self._copies = self._copies, []
        return [RowCopy(source, target, int(self.positions[source])) for source, target in copies]

    def adjustments(self) -> Adjustments:
        """The changes to the logits of the next step."""
        if not self._constrained:
            return NO_ADJUSTMENTS
        return self._constrained.adjustments(self._log, self.positions, self._live)

    def masks(self) -> Masks:
        """The tokens that rows are restricted to in the next step."""
        if not self._constrained:
            return NO_MASKS
        return self._constrained.masks(self._log, self.positions, self._live)

    def advance(self, token_ids: Any, log_probs: Any, aligned: npt.NDArray[Any] | None = None) -> Advance:
        """Apply the candidates of one step, [extent, candidates], likeliest first.

        A candidate with log-probability minus infinity is banned and never chosen; it fills up a row with too few
        others. All rows have as many candidates as the request that needs most. A request uses only as many as it
        needs. `aligned` has the source position that each row attends to most, if the model returns it.
        """
        step = Advance()
        aligned = np.array(aligned) if aligned is not None and self._aligning else None
        self._has_alignments = aligned is not None
        token_ids, log_probs = np.asarray(token_ids), np.asarray(log_probs)
        rows = len(self._owners)
        new, log_prob = token_ids[:, 0], log_probs[:, 0]
        self._clean = _all_above(log_prob, BANNED)
        done: list[ActiveRequest] = []
        given: list[int] = []
        if self._beams or self._sampled or self._given:
            new, log_prob = new.astype(np.int64), log_prob.astype(np.float64)
            if self._sampled:
                self._draw(token_ids, log_probs, new, log_prob)
            if self._given:
                given = self._give(new, log_prob)
                if aligned is not None:
                    aligned[given] = -1
            if self._beams:
                new, done = self._advance_beams(token_ids, log_probs, new, aligned, step)
        positions = self.positions[:rows]
        self._log.write(new, log_prob, positions, aligned)
        self.tokens[:rows] = new
        positions += 1
        self._steps += 1
        self._steps_left -= 1
        self.cached_positions += rows - len(self._holes)
        has_bytes = self._byte_pieces.contains_one(new)
        if has_bytes or self._in_bytes:
            self._reject_torn(log_prob, given, step)
        self._in_bytes = has_bytes
        if self._steps_left <= 0 or not self._clean or _contains(new, self._end_id):
            self._end_rows(new == self._end_id, log_prob, given, step)
        step.ended += done
        if self._constrained:
            self._constrained.note(new, self.positions)
            self._loosen()
        if self._sampled:
            ended = [row for active in self._sampled for row in active.rows if not self._live[row]]
            self.tokens[ended] = self._end_id  # to be fed
        return step

    def progress(self, now: float, interval: float) -> Iterator[Progress]:
        """Yield events with the tokens of streams that have become final since their previous events.

        A stream gets no event within `interval` seconds of the previous one, because every message costs processor
        time. `last_progress` gives the remaining tokens of a request that has ended.
        """
        for active in self._streams:
            length = self.length(active)
            if now < active.next_progress or length <= active.streamed:
                continue
            tokens = self._decided(active, length)
            if tokens:
                active.streamed += len(tokens)
                active.next_progress = now + interval
                yield Progress(active.request.id, tuple(tokens))

    def position(self, active: ActiveRequest) -> int:
        """Number of steps that a request has made."""
        return self._steps - active.started

    def length(self, active: ActiveRequest) -> int:
        """Number of tokens of its live hypotheses; below 0 while ids are fed that do not count."""
        return self._steps - active.started - len(active.request.forced)

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
        for column in (self.tokens, self.positions, self.source_lengths, self._limits, self._live):
            column[hole] = column[row]
        self._log.copy(row, hole, int(self.positions[row]))
        active = self._owners[hole]
        if active is not None and active.constrained:
            self._constrained.move(row, hole)
        if self._copies:
            renamed = {row: hole}
            self._copies = [(renamed.get(a, a), renamed.get(b, b)) for a, b in self._copies]

    # Rows with a hypothesis each: greedy search and sampling.

    def _draw(self, token_ids: npt.NDArray[Any], log_probs: npt.NDArray[Any], new: Ints, log_prob: Floats) -> None:
        """Draw the next tokens of sampled rows, and write them into `new` and `log_prob`."""
        drawing = [
            (row, active.request.options.sampling, draws.at(int(self.positions[row])))
            for active in self._sampled
            for row, draws in zip(active.rows, active.draws, strict=True)
            if self._live[row] and log_prob[row] > BANNED
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

    def _give(self, new: Ints, log_prob: Floats) -> list[int]:
        """Write the next of the ids that requests are given into `new` and `log_prob`; returns the rows."""
        rows: list[int] = []
        for active in self._given[:]:
            position = self.position(active)
            rows += active.rows
            for row in active.rows:
                new[row], log_prob[row] = active.given[position], 0.0
            if position + 1 == len(active.given):  # from now on it chooses, and may be in plans of several steps
                self._given.remove(active)
                active.in_given = False
                self.num_watched -= not active.watched
                if active.constrained:
                    self._constrained.renew()
        return rows

    def _end_rows(
        self, is_end: npt.NDArray[np.bool_], log_prob: npt.NDArray[Any], given: Sequence[int], step: Advance
    ) -> None:
        """Finish the hypotheses of rows that chose the end of sentence, reached their limit, or have no candidate."""
        rows = len(is_end)
        left = self._limits[:rows] - self.positions[:rows]
        ended = is_end | (left <= 0) | ~(log_prob > BANNED)  # NaN too
        ended[list(given)] = False
        ended &= self._live[:rows]
        self._steps_left = int(left.min(initial=_NO_LIMIT, where=left > 0))
        for row in ended.nonzero()[0].tolist():
            active = self._owners[row]
            if active is None or active.beam is not None:
                continue
            last = float(log_prob[row])
            if active.request.options.never_empty and is_end[row] and last > BANNED and self.length(active) == 1:
                step.rejected[active.request.id] = active, NotFirst(self._end_id)
                continue
            reason = FinishReason.LENGTH
            if last > BANNED and not is_end[row] and self.positions[row] < active.max_steps:
                if not self._is_runaway(active, row):
                    continue
                reason = FinishReason.REPETITION
            if math.isnan(last):
                if not any(failed is active for failed, _ in step.failed):
                    step.failed.append((active, EngineFailure(_NAN)))
                continue
            active.finished[active.rows.index(row)] = self._hypothesis(active, row, last, reason)
            if len(active.finished) == len(active.rows):
                step.ended.append(active)
            else:
                self._live[row] = False

    def _reject_torn(self, log_prob: npt.NDArray[Any], given: Sequence[int], step: Advance) -> None:
        """Reject the newest tokens that tear a character apart. Beams drop such children themselves."""
        for row, active in enumerate(self._owners):
            if active is None or active.beam is not None or not self._live[row] or row in given:
                continue
            if not log_prob[row] > BANNED:
                continue
            length = self.length(active)
            *before, newest = self._log.of(row, min(length, utf8.LONGEST + 1))[0]
            if not self._byte_pieces.fits(before, newest):
                step.rejected[active.request.id] = active, WholeCharacters(self._byte_pieces, length - 1)

    def _is_runaway(self, active: ActiveRequest, row: int) -> bool:
        """Whether a row repeats itself without end; if not, it will be checked again."""
        length = self.length(active) - len(active.request.target_prefix)
        if repetition.is_runaway(self._log.of(row, length)[0], active.request.source):
            return True
        position = int(self.positions[row])
        self._limits[row] = min(active.max_steps, position + repetition.INTERVAL)
        self._steps_left = min(self._steps_left, int(self._limits[row]) - position)
        return False

    def _hypothesis(self, active: ActiveRequest, row: int, last: float, reason: FinishReason) -> Hypothesis:
        """The hypothesis of a row that has ended, with `last` the log-probability of its last token.

        `reason` is that of a hypothesis which did not end by itself.
        """
        request, length = active.request, self.length(active)
        tokens, token_scores = self._log.of(row, length)
        alignment = self._log.aligned(row, length) if request.alignments and self._has_alignments else []
        if last > BANNED and tokens[-1] == self._end_id:
            chosen = scores.Chosen(tokens[:-1], token_scores[:-1], alignment)
            return scores.stopped(chosen, last, scores.total(token_scores), request)
        kept = len(tokens) - 1 if last == BANNED else request.max_length
        chosen = scores.Chosen(tokens[:kept], token_scores[:kept], alignment[:kept])
        return scores.cut(chosen, request, self._byte_pieces, reason)

    def _loosen(self) -> None:
        """Treat requests whose constraints have come to their end, as a minimum length does, as if they had none."""
        for active in self._loosening[:]:
            if self.position(active) >= active.constrained_steps:
                self._loosening.remove(active)
                self._constrained.remove(active)
                active.constrained = False
                self.num_watched -= not active.watched

    # Beams.

    def _advance_beams(
        self,
        token_ids: npt.NDArray[Any],
        log_probs: npt.NDArray[Any],
        new: Ints,
        aligned: npt.NDArray[Any] | None,
        step: Advance,
    ) -> tuple[Ints, list[ActiveRequest]]:
        """Return `new` with the next tokens of all beams, and the requests that have ended."""
        width = 2 * max(len(active.rows) for active in self._beams)
        candidates, likely, tokens = token_ids[:, :width].tolist(), log_probs[:, :width].tolist(), new.tolist()
        attended = None if aligned is None else aligned.tolist()
        copies: list[tuple[int, int]] = []
        done: list[ActiveRequest] = []
        for active in self._beams:
            beam = active.beam
            assert beam is not None
            if not self._clean and beam.is_lost(active.rows, likely):
                step.failed.append((active, EngineFailure(_NAN)))
            elif not beam.advance(active.rows, candidates, likely, self._end_id, tokens, copies, attended):
                done.append(active)
            elif active.constrained:
                self._live[active.rows] = beam.live()
        if copies:
            self._copies += copies
            if self._constrained:
                sources, targets = map(list, zip(*copies, strict=True))
                self._log.copy(sources, targets, max(self.position(active) for active in self._beams))
                self._constrained.copy(sources, targets)
        return np.array(tokens, np.int64), done

    # Streams.

    def _decided(self, active: ActiveRequest, length: int) -> list[int]:
        """The tokens, after those already sent, that the best hypothesis is certain to have."""
        start = active.streamed
        if active.beam is not None:
            return active.beam.decided(start)
        # Which of several samples is the best one is known only at the end.
        return self._log.of(active.rows[0], length - start)[0] if len(active.rows) == 1 else []


def _all_above(values: npt.NDArray[Any], bound: float) -> bool:
    """Whether all values are above a bound; NaN is not."""
    if len(values) <= _FEW_ROWS:
        return all(value > bound for value in values.tolist())
    return bool(np.count_nonzero(values > bound) == len(values))


def _contains(values: npt.NDArray[Any], wanted: int) -> bool:
    if len(values) <= _FEW_ROWS:
        return wanted in values.tolist()
    return bool(np.count_nonzero(values == wanted))
