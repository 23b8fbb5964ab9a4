"""Continuous batching as a pure state machine: which requests join, which rows step, who is done.

No numpy, no runtime, no clock, no threads: times and results are passed in. A step is three calls, made by the engine:
`plan = scheduler.plan()`, `result = runner.run(plan)`, `events = scheduler.commit(plan, result, now)`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from dragoman_service.engine.request import Event, Failed, Request, check_request
from dragoman_service.errors import EngineFailure, Overloaded
from oracle.active_requests import Running, Waiting
from oracle.fair_queue import FairQueue
from oracle.latency_estimate import Pace
from oracle.plan import Adjustment, Join, Mask, RowCopy, StepPlan, StepResult, masks_of
from oracle.retry_groups import Suspects
from oracle.rows import RowTable
from oracle.search.factory import make_search
from oracle.slots import SlotPool
from oracle.snapshot import SchedulerSnapshot, running_request, waiting_request


class Scheduler:
    """Requests wait in a fair queue, whose head joins as soon as its rows are free.

    Those of a step that failed run again, in ever smaller groups, before anybody else joins: they decide the same.

    Between `plan` and `commit` rows stay where they are, so `add`, `abort` and `expire` are allowed at any time.
    """

    def __init__(
        self,
        *,
        max_rows: int,
        max_queue: int,
        end_id: int,
        begin_id: int,
        max_encode_tokens: int = 1024,
        stream_interval: float = 0.0,
        max_steps: int = 1,
        look_ahead: bool = False,
    ) -> None:
        """`max_encode_tokens` bounds the source tokens encoded in one step, for running rows not to be held up.

        One request always joins. `stream_interval` is the least time in seconds between two `Progress` events of one. A
        plan has up to `max_steps` steps where nobody could tell; with `look_ahead` it names who will join next.
        """
        limits = {"max_queue": max_queue, "max_encode_tokens": max_encode_tokens, "max_steps": max_steps}
        for name, value in limits.items():
            if value < 1:
                raise ValueError(f"{name}: got {value}; allowed: 1 or more")
        self.max_rows = max_rows
        self.max_queue = max_queue
        self._end_id = end_id
        self._begin_id = begin_id
        self._max_encode_tokens = max_encode_tokens
        self._stream_interval = stream_interval
        self._max_steps = max_steps
        self._look_ahead = look_ahead
        self._slots = SlotPool(max_rows)
        self._rows = RowTable()
        self.pace = Pace()
        self._waiting = FairQueue()
        self._suspects = Suspects()
        self._suspected = False  # whether those that run are a group of suspects
        self._running: dict[int, Running] = {}
        self._demanding: dict[int, Running] = {}  # those that may want copies or adjustments
        self._num_watched = 0  # running requests of which every step is looked at before the next
        self._num_candidates: Counter[int] = Counter()  # candidates wanted per row -> running requests that do
        self._cached_positions = 0
        self._in_flight: StepPlan | None = None
        self._next_deadline = math.inf  # no request has an earlier one; may lag behind when requests end

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting) + len(self._suspects)

    @property
    def num_running(self) -> int:
        """Requests that own rows."""
        return len(self._running)

    @property
    def has_work(self) -> bool:
        """Whether anything is waiting or running, which is when `plan` gives a plan."""
        return bool(self._running or self.num_waiting)

    @property
    def rows_used(self) -> int:
        """Rows owned."""
        return self._slots.num_used

    @property
    def cached_positions(self) -> int:
        """Positions of self- and cross-attention that the rows owned have in the caches."""
        return self._cached_positions

    def validate(self, request: Request) -> None:
        """Raise `InvalidInput` for a request that can never run here. Looks at limits alone: any thread may call it."""
        check_request(request, self.max_rows)

    def add(self, request: Request, now: float) -> None:
        """Put a request, submitted at `now`, at the end of the queue.

        Raises `InvalidInput` as `validate` does, `Overloaded` if the queue is full, and `ValueError` for an id in use.
        """
        self.validate(request)
        if request.id in self._running or request.id in self._waiting or request.id in self._suspects:
            raise ValueError(f"request id {request.id} is in use")
        if self.num_waiting >= self.max_queue:
            raise Overloaded(f"{self.num_waiting} requests are waiting, which is the most allowed")
        self._waiting.push(Waiting(request, now))
        if request.deadline is not None:
            self._next_deadline = min(self._next_deadline, self.pace.latest_start(request))

    def abort(self, request_id: int, error: Exception) -> list[Event]:
        """End a request with `error`; its rows are free for the next plan. No events if it is not there (any more)."""
        if request_id in self._running:
            self._leave(request_id)
        elif not (self._waiting.remove(request_id) or self._suspects.remove(request_id)):
            return []
        return [Failed(request_id, error)]

    def expire(self, now: float) -> list[Event]:
        """Fail every request whose deadline has come, and those that wait and could not be done before it comes."""
        if now < self._next_deadline:
            return []
        events: list[Event] = []
        for waiting in [*self._suspects, *self._waiting]:
            if self.pace.latest_start(waiting.request) <= now:
                events += self.abort(waiting.request.id, self.pace.too_late(waiting.request, now))
        for running in list(self._running.values()):
            if (running.request.deadline or math.inf) <= now:
                events += self.abort(running.request.id, self.pace.too_late(running.request, now))
        waiting_until = (self.pace.latest_start(waiting.request) for waiting in (*self._suspects, *self._waiting))
        running_until = (running.request.deadline or math.inf for running in self._running.values())
        self._next_deadline = min(*waiting_until, *running_until, math.inf, math.inf)
        return events

    def plan(self) -> StepPlan | None:
        """What the next step shall do; None exactly if nothing is waiting or running.

        `commit` or `fail_step` must follow before the next plan.
        """
        if self._in_flight is not None:
            raise RuntimeError("the last plan was neither committed nor failed")
        if not self.has_work:
            return None
        # Before holes are closed: whoever joins fills them at no cost.
        joins = self._admit() if self.num_waiting else []
        copies = self._close_holes() if self._slots.holes else []
        adjustments: list[Adjustment] = []
        masks: dict[int, Mask] = {}
        for running in self._demanding.values():  # after the moves, so that copies speak of the rows as they lie now
            copies += running.copies(self._rows.positions)
            adjustments += running.search.adjustments(running.rows)
            masks |= running.search.masks(running.rows)
        self._in_flight = StepPlan(
            copies=tuple(copies),
            joins=tuple(joins),
            tokens=tuple(self._rows.tokens()),
            positions=tuple(self._rows.positions),
            source_lengths=tuple(self._rows.source_lengths),
            num_candidates=max(self._num_candidates),
            adjustments=tuple(adjustments),
            # While somebody waits, the next step may be theirs to join.
            num_steps=1 if self._num_watched or self.num_waiting else self._max_steps,
            upcoming=self._waiting.sources(self._max_encode_tokens) if self._look_ahead else (),
            masks=masks_of(masks),
        )
        return self._in_flight

    def _admit(self) -> list[Join]:
        """Let the head of the queue join, and the next one, while rows and encoder budget last.

        Suspects run with nobody else: a whole group joins once nobody runs, which fits, as it has run before.
        """
        if self._suspected or len(self._suspects):
            if self._running:
                return []
            group = self._suspects.pop()
            self._suspected = bool(group)
            if group:
                return [self._join(waiting) for waiting in group]
        joins: list[Join] = []
        budget = self._max_encode_tokens
        while (waiting := self._waiting.head()) is not None:
            request = waiting.request
            if request.options.num_rows > self._slots.num_free or (joins and len(request.source) > budget):
                break
            budget -= len(request.source)
            self._waiting.pop()
            joins.append(self._join(waiting))
        return joins

    def _join(self, waiting: Waiting) -> Join:
        """The one place where rows are taken."""
        request = waiting.request
        search = make_search(request, begin_id=self._begin_id, end_id=self._end_id)
        rows = self._slots.acquire(request.id, request.options.num_rows)
        self._rows.assign(rows, search, len(request.source))
        self._running[request.id] = running = Running(request, waiting.submitted, search, rows, waiting.streamed)
        if search.demanding:
            self._demanding[request.id] = running
        self._num_watched += running.watched
        self._num_candidates[search.num_candidates] += 1
        self._cached_positions += len(rows) * len(request.source)
        return Join(request.source, tuple(rows))

    def _close_holes(self) -> list[RowCopy]:
        """Move the last rows into the places of those that left."""
        copies = []
        for _, source, target in self._slots.compact():
            copies.append(
                RowCopy(source, target, self._rows.positions[source], cross=self._rows.source_lengths[source])
            )
            self._rows.move(source, target)
        self._rows.truncate(self._slots.extent)
        return copies

    def commit(self, plan: StepPlan, result: StepResult, now: float) -> list[Event]:
        """Take the result of `plan`, which was there at `now`. Requests that ended since the plan are passed over."""
        self._land(plan)
        self.pace.step(len(plan.tokens), (result.encode_seconds + result.decode_seconds) / plan.num_steps)
        events: list[Event] = []
        for running in self._running.values():
            running.begin(result, now)
        for token_ids, log_probs in result.steps:
            events += self._advance(token_ids, log_probs, plan.num_candidates, now)
        return events

    def _advance(
        self, token_ids: Sequence[list[int]], log_probs: Sequence[list[float]], num_candidates: int, now: float
    ) -> list[Event]:
        """One step has been made."""
        self._rows.advance()
        self._cached_positions += self._slots.num_used
        events: list[Event] = []
        for running in list(self._running.values()):
            try:
                running.advance(token_ids, log_probs, num_candidates)
            except EngineFailure as error:
                events += self.abort(running.request.id, error)
                continue
            if running.request.stream:
                events += running.progress(now, self._stream_interval)
            if running.search.done:
                self._leave(running.request.id)
                self.pace.ended(len(running.request.source), running.steps)
                events.append(running.finished(now))
        return events

    def fail_step(self, plan: StepPlan, error: Exception) -> list[Event]:
        """The step has not happened, and its rows' caches are lost.

        Who ran alone fails with `error`. Others run again from their beginnings, in two groups that may fail in turn.
        """
        self._land(plan)
        group = [running.again() for running in self._running.values()]
        if len(group) == 1 and group[0].request.options.num_rows == len(plan.tokens):
            return self.abort(group[0].request.id, error)
        for waiting in group:
            self._leave(waiting.request.id)
        if group:
            self._suspects.split(group)
        return []

    def snapshot(self) -> SchedulerSnapshot:
        """The state at this moment."""
        return SchedulerSnapshot(
            max_rows=self.max_rows,
            max_queue=self.max_queue,
            extent=self._slots.extent,
            holes=self._slots.holes,
            cached_positions=self._cached_positions,
            waiting=tuple(map(waiting_request, self._waiting)),
            suspects=tuple(map(waiting_request, self._suspects)),
            running=tuple(
                running_request(running, self._rows.positions[running.rows[0]]) for running in self._running.values()
            ),
        )

    def _leave(self, request_id: int) -> None:
        """The one place where rows are given back."""
        running = self._running.pop(request_id)
        self._demanding.pop(request_id, None)
        self._num_watched -= running.watched
        wanted = running.search.num_candidates
        self._num_candidates[wanted] -= 1
        if not self._num_candidates[wanted]:
            del self._num_candidates[wanted]
        cached = self._rows.positions[running.rows[0]] + len(running.request.source)
        self._cached_positions -= len(running.rows) * cached
        self._slots.release(request_id)

    def _land(self, plan: StepPlan) -> None:
        if plan is not self._in_flight:
            raise RuntimeError("this is not the plan in flight")
        self._in_flight = None
