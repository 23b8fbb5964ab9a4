"""Continuous batching as a pure state machine: which requests join, which rows step, who is done.

No numpy, no runtime, no clock, no threads: times and results are passed in. A step is three calls, made by the engine:
`plan = scheduler.plan()`, `result = runner.run(plan)`, `events = scheduler.commit(plan, result, now)`.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence

from dragoman_service.errors import DeadlineExceeded, EngineFailure, InvalidInput, Overloaded
from dragoman_service.plan import Adjustment, Join, RowCopy, StepPlan, StepResult
from dragoman_service.request import Event, Failed, Request
from dragoman_service.rows import RowTable
from dragoman_service.running import Running, Waiting
from dragoman_service.search.factory import make_search
from dragoman_service.slots import SlotPool
from dragoman_service.snapshot import RunningRequest, SchedulerSnapshot, WaitingRequest


class Scheduler:
    """Requests wait first come, first served; the head of the queue joins as soon as its rows are free.

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
        self._waiting: OrderedDict[int, Waiting] = OrderedDict()
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
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that own rows."""
        return len(self._running)

    @property
    def has_work(self) -> bool:
        """Whether anything is waiting or running, which is when `plan` gives a plan."""
        return bool(self._waiting or self._running)

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
        if request.options.num_rows > self.max_rows:
            field = "beam_size" if request.options.sampling is None else "num_hypotheses"
            raise InvalidInput(field, request.options.num_rows, f"at most {self.max_rows}, the rows of this server")
        if not request.source:
            raise InvalidInput("source", request.source, "at least one token")
        if request.max_length < 1:
            raise InvalidInput("max_length", request.max_length, "1 or more")
        if len(request.target_prefix) >= request.max_length:
            allowed = f"fewer tokens than max_length, which is {request.max_length}"
            raise InvalidInput("target_prefix", f"{len(request.target_prefix)} tokens", allowed)

    def add(self, request: Request, now: float) -> None:
        """Put a request, submitted at `now`, at the end of the queue.

        Raises `InvalidInput` as `validate` does, `Overloaded` if the queue is full, and `ValueError` for an id in use.
        """
        self.validate(request)
        if request.id in self._waiting or request.id in self._running:
            raise ValueError(f"request id {request.id} is in use")
        if len(self._waiting) >= self.max_queue:
            raise Overloaded(f"{len(self._waiting)} requests are waiting, which is the most allowed")
        self._waiting[request.id] = Waiting(request, now)
        if request.deadline is not None:
            self._next_deadline = min(self._next_deadline, request.deadline)

    def abort(self, request_id: int, error: Exception) -> list[Event]:
        """End a request with `error`; its rows are free for the next plan. No events if it is not there (any more)."""
        if request_id in self._running:
            self._leave(request_id)
        elif self._waiting.pop(request_id, None) is None:
            return []
        return [Failed(request_id, error)]

    def expire(self, now: float) -> list[Event]:
        """Fail every request, waiting or running, whose deadline has come."""
        if now < self._next_deadline:
            return []
        late = [request.id for request in self._requests() if request.deadline is not None and request.deadline <= now]
        events: list[Event] = []
        for request_id in late:
            events += self.abort(request_id, DeadlineExceeded("the deadline passed before the translation was done"))
        deadlines = (request.deadline for request in self._requests() if request.deadline is not None)
        self._next_deadline = min(deadlines, default=math.inf)
        return events

    def plan(self) -> StepPlan | None:
        """What the next step shall do; None exactly if nothing is waiting or running.

        `commit` or `fail_step` must follow before the next plan.
        """
        if self._in_flight is not None:
            raise RuntimeError("the last plan was neither committed nor failed")
        if not self.has_work:
            return None
        joins = self._admit() if self._waiting else []  # before holes are closed: whoever joins fills them at no cost
        copies = self._close_holes() if self._slots.holes else []
        adjustments: list[Adjustment] = []
        for running in self._demanding.values():  # after the moves, so that copies speak of the rows as they lie now
            copies += running.copies(self._rows.positions)
            adjustments += running.search.adjustments(running.rows)
        self._in_flight = StepPlan(
            copies=tuple(copies),
            joins=tuple(joins),
            tokens=tuple(self._rows.tokens()),
            positions=tuple(self._rows.positions),
            source_lengths=tuple(self._rows.source_lengths),
            num_candidates=max(self._num_candidates),
            adjustments=tuple(adjustments),
            # While somebody waits, the next step may be theirs to join.
            num_steps=1 if self._num_watched or self._waiting else self._max_steps,
            upcoming=self._upcoming() if self._look_ahead and self._waiting else (),
        )
        return self._in_flight

    def _upcoming(self) -> tuple[tuple[int, ...], ...]:
        """The sources at the head of the queue, within the encoder's budget."""
        sources: list[tuple[int, ...]] = []
        budget = self._max_encode_tokens
        for waiting in self._waiting.values():
            budget -= len(waiting.request.source)
            if budget < 0:
                break
            sources.append(waiting.request.source)
        return tuple(sources)

    def _admit(self) -> list[Join]:
        """Let the head of the queue join, and the next one, while rows and encoder budget last."""
        joins: list[Join] = []
        budget = self._max_encode_tokens
        while self._waiting:
            waiting = next(iter(self._waiting.values()))
            request = waiting.request
            if request.options.num_rows > self._slots.num_free or (joins and len(request.source) > budget):
                break
            budget -= len(request.source)
            del self._waiting[request.id]
            joins.append(self._join(waiting))
        return joins

    def _join(self, waiting: Waiting) -> Join:
        """The one place where rows are taken."""
        request = waiting.request
        search = make_search(request, begin_id=self._begin_id, end_id=self._end_id)
        rows = self._slots.acquire(request.id, request.options.num_rows)
        self._rows.assign(rows, search, len(request.source))
        self._running[request.id] = running = Running(request, waiting.submitted, search, rows)
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
            copies.append(RowCopy(source, target, self._rows.positions[source], cross=True))
            self._rows.move(source, target)
        self._rows.truncate(self._slots.extent)
        return copies

    def commit(self, plan: StepPlan, result: StepResult, now: float) -> list[Event]:
        """Take the result of `plan`, which was there at `now`. Requests that ended since the plan are passed over."""
        self._land(plan)
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
                events.append(running.finished(now))
        return events

    def fail_step(self, plan: StepPlan, error: Exception) -> list[Event]:
        """The step has not happened: its rows' caches are lost, so every running request fails with `error`."""
        self._land(plan)
        return [event for request_id in list(self._running) for event in self.abort(request_id, error)]

    def snapshot(self) -> SchedulerSnapshot:
        """The state at this moment."""
        return SchedulerSnapshot(
            max_rows=self.max_rows,
            max_queue=self.max_queue,
            extent=self._slots.extent,
            holes=self._slots.holes,
            cached_positions=self._cached_positions,
            waiting=tuple(
                WaitingRequest(request_id, waiting.request.options.num_rows, len(waiting.request.source))
                for request_id, waiting in self._waiting.items()
            ),
            running=tuple(
                RunningRequest(
                    request_id=request_id,
                    num_rows=running.request.options.num_rows,
                    rows=tuple(running.rows),
                    source_length=len(running.request.source),
                    position=self._rows.positions[running.rows[0]],
                    max_length=running.request.max_length,
                )
                for request_id, running in self._running.items()
            ),
        )

    def _requests(self) -> Iterable[Request]:
        for waiting in self._waiting.values():
            yield waiting.request
        for running in self._running.values():
            yield running.request

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
