"""Continuous batching as a pure state machine: which requests join, which rows step, who is done.

No runtime, no clock, no threads: times and results are passed in. A step is three calls, made by the engine:
`plan = scheduler.plan()`, `result = runner.run(plan)`, `events = scheduler.commit(plan, result, now)`.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from itertools import islice

from dragoman_service.engine.batch import ActiveRequest, Batch, Waiting, last_progress
from dragoman_service.engine.fair_queue import FairQueue
from dragoman_service.engine.latency_estimate import LatencyEstimate
from dragoman_service.engine.plan import Join, StepPlan, StepResult
from dragoman_service.engine.request import Event, Failed, Request, check_request
from dragoman_service.engine.retry_groups import RetryGroups

OVERTAKING = 4
"""While a request waits for more rows than are free, others may take this many times the rows of the batch."""
_OVERTAKERS = 32
"""Waiting requests that are looked at for one that fits."""
_SLACK = 64
"""Deadlines that may be kept for nobody."""


class Scheduler:
    """Requests wait in a fair queue, whose head joins as soon as its rows are free.

    Those of a step that failed run again, in ever smaller groups, before anybody else joins: they decide the same.

    Between `plan` and `commit` rows stay where they are, so `add`, `abort` and `expire` are allowed at any time.
    """

    def __init__(
        self,
        *,
        max_rows: int,
        end_id: int,
        begin_id: int,
        max_encode_tokens: int = 1024,
        stream_interval: float = 0.0,
        max_steps: int = 1,
        look_ahead: bool = False,
        max_positions: int | None = None,
    ) -> None:
        """Make a scheduler without requests.

        Args:
            max_rows: Rows of the running batch.
            end_id: The token that ends a sentence.
            begin_id: The token that is fed first.
            max_encode_tokens: Source tokens encoded in one step, for running rows not to be held up. One request
                always joins.
            stream_interval: Seconds between two `Progress` events of a request, at least.
            max_steps: Steps of a plan at most, where nobody could tell.
            look_ahead: Whether a plan names the sources that will join next.
            max_positions: Target positions that the model has; None: as many as a request asks for.
        """
        limits = {"max_encode_tokens": max_encode_tokens, "max_steps": max_steps}
        for name, value in limits.items():
            if value < 1:
                raise ValueError(f"{name}: got {value}; allowed: 1 or more")
        self.max_rows = max_rows
        self.latency = LatencyEstimate()
        self._max_encode_tokens = max_encode_tokens
        self._stream_interval = stream_interval
        self._max_steps = max_steps
        self._look_ahead = look_ahead
        limit = {} if max_positions is None else {"max_positions": max_positions}
        self._batch = Batch(max_rows, begin_id=begin_id, end_id=end_id, **limit)
        self._waiting = FairQueue()
        self._retry_groups = RetryGroups()
        self._held: int | None = None  # the request for which rows are kept, once enough have gone to others
        self._overtaken = 0  # rows that have gone to others since it became the head of the queue
        self._retrying = False  # whether those that run are a group of them
        self._joined: list[ActiveRequest] = []  # in the plan in flight
        self._in_flight: StepPlan | None = None
        self._deadlines: list[tuple[float, int]] = []  # a heap of (when to look at it, request id)

    @property
    def num_waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting) + len(self._retry_groups)

    @property
    def num_running(self) -> int:
        """Requests that own rows."""
        return len(self._batch.active)

    @property
    def has_work(self) -> bool:
        """Whether anything is waiting or running, which is when `plan` gives a plan."""
        return bool(self._batch.active or self.num_waiting)

    @property
    def rows_used(self) -> int:
        """Rows owned."""
        return self._batch.num_used

    @property
    def cached_positions(self) -> int:
        """Positions of self- and cross-attention that the rows owned have in the caches."""
        return self._batch.cached_positions

    def validate(self, request: Request) -> None:
        """Raise `InvalidInput` for a request that can never run here. Looks at limits alone: any thread may call it."""
        check_request(request, self.max_rows)

    def add(self, request: Request, now: float) -> None:
        """Put a request, submitted at `now`, at the end of the queue.

        Raises `InvalidInput` as `validate` does, and `ValueError` for an id in use. The queue has no limit of its own:
        admission bounds what an engine accepts.
        """
        self.validate(request)
        if self._is_there(request.id):
            raise ValueError(f"request id {request.id} is in use")
        self._waiting.push(Waiting(request, now))
        if request.deadline is not None:
            heappush(self._deadlines, (self.latency.latest_start(request), request.id))

    def abort(self, request_id: int, error: Exception) -> list[Event]:
        """End a request with `error`; its rows are free for the next plan. No events if it is not there (any more)."""
        if request_id in self._batch.active:
            self._batch.leave(request_id)
        elif not (self._waiting.remove(request_id) or self._retry_groups.remove(request_id)):
            return []
        return [Failed(request_id, error)]

    def expire(self, now: float) -> list[Event]:
        """Fail every request whose deadline has come, and those that wait and could not be done before it comes."""
        events: list[Event] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, request_id = heappop(self._deadlines)
            active = self._batch.active.get(request_id)
            if active is not None:
                request = active.request
                until = math.inf if request.deadline is None else request.deadline
            else:
                waiting = self._waiting.get(request_id) or self._retry_groups.get(request_id)
                if waiting is None:  # it has ended
                    continue
                request, until = waiting.request, self.latency.latest_start(waiting.request)
            if until <= now:
                events += self.abort(request_id, self.latency.too_late(request, now))
            else:
                heappush(self._deadlines, (until, request_id))
        if len(self._deadlines) > _SLACK + 2 * (self.num_running + self.num_waiting):
            self._deadlines = [entry for entry in self._deadlines if self._is_there(entry[1])]
            heapify(self._deadlines)
        return events

    def _is_there(self, request_id: int) -> bool:
        return request_id in self._batch.active or request_id in self._waiting or request_id in self._retry_groups

    def plan(self) -> StepPlan | None:
        """What the next step shall do; None exactly if nothing is waiting or running.

        `commit` or `fail_step` must follow before the next plan.
        """
        if self._in_flight is not None:
            raise RuntimeError("the last plan was neither committed nor failed")
        if not self.has_work:
            return None
        batch = self._batch
        self._joined = []
        # Before holes are closed: whoever joins fills them at no cost.
        joins = self._admit() if self.num_waiting else []
        copies = batch.close_holes() + batch.beam_copies()
        rows = batch.extent
        self._in_flight = StepPlan(
            copies=copies,
            joins=joins,
            tokens=batch.tokens[:rows].copy(),
            positions=batch.positions[:rows].copy(),
            source_lengths=batch.source_lengths[:rows].copy(),
            num_candidates=batch.num_candidates,
            adjustments=batch.adjustments(),
            # While somebody waits, the next step may be theirs to join.
            num_steps=1 if batch.num_watched or self.num_waiting else self._max_steps,
            upcoming=self._waiting.sources(self._max_encode_tokens) if self._look_ahead else (),
        )
        return self._in_flight

    def _admit(self) -> list[Join]:
        """Let the head of the queue join, and the next one, while rows and encoder budget last.

        A group that runs again runs with nobody else: all of it joins once nobody runs, which fits, as it has run
        before.
        """
        if self._retrying or len(self._retry_groups):
            if self._batch.active:
                return []
            group = self._retry_groups.pop()
            self._retrying = bool(group)
            if group:
                return [self._join(waiting) for waiting in group]
        joins: list[Join] = []
        budget = self._max_encode_tokens
        while (waiting := self._next()) is not None:
            request = waiting.request
            if joins and len(request.source) > budget:
                break
            budget -= len(request.source)
            if self._held is not None:
                self._overtaken += request.options.num_rows
            self._waiting.serve(request.id)
            joins.append(self._join(waiting))
        return joins

    def _next(self) -> Waiting | None:
        """The request to join next: the head of the queue, or if it needs more rows than are free, one that fits.

        The head is overtaken by so many rows at most; then the rows that come free are kept for it.
        """
        free = self._batch.num_free
        held = None if self._held is None else self._waiting.get(self._held)
        if held is None:
            held = self._waiting.head()
            self._held, self._overtaken = None if held is None else held.request.id, 0
        if held is None or held.request.options.num_rows <= free:
            self._held = None
            return held
        if not free or self._overtaken >= OVERTAKING * self.max_rows:
            return None
        fitting = (it for it in islice(self._waiting, _OVERTAKERS) if it.request.options.num_rows <= free)
        return next(fitting, None)

    def _join(self, waiting: Waiting) -> Join:
        join = self._batch.join(waiting)
        self._joined.append(self._batch.active[waiting.request.id])
        return join

    def commit(self, plan: StepPlan, result: StepResult, now: float) -> list[Event]:
        """Take the result of `plan`, which was there at `now`. Requests that ended since the plan are passed over."""
        self._land(plan)
        self.latency.step(plan.num_rows, (result.encode_seconds + result.decode_seconds) / plan.num_steps)
        for active in self._joined:
            active.begin(result, now)
        events: list[Event] = []
        for token_ids, log_probs in result.steps:
            self._advance(token_ids, log_probs, now, events)
        return events

    def _advance(self, token_ids: object, log_probs: object, now: float, events: list[Event]) -> None:
        """One step has been made."""
        batch = self._batch
        step = batch.advance(token_ids, log_probs)
        for active, error in step.failed:
            events += self.abort(active.request.id, error)
        for active in step.ended:
            if active.request.id not in batch.active:
                continue
            self.latency.ended(len(active.request.source), batch.position(active))
            batch.leave(active.request.id)
            if active.request.stream:
                events += last_progress(active)
            events.append(active.ended(now))
        if batch.num_watched:
            events += batch.progress(now, self._stream_interval)

    def fail_step(self, plan: StepPlan, error: Exception) -> list[Event]:
        """The step has not happened, and its rows' caches are lost.

        Who ran alone fails with `error`. Others run again from their beginnings, in two groups that may fail in turn.
        """
        self._land(plan)
        group = [active.again() for active in self._batch.active.values()]
        if len(group) == 1 and group[0].request.options.num_rows == plan.num_rows:
            return self.abort(group[0].request.id, error)
        for waiting in group:
            self._batch.leave(waiting.request.id)
        if group:
            self._retry_groups.split(group)
        return []

    def _land(self, plan: StepPlan) -> None:
        if plan is not self._in_flight:
            raise RuntimeError("this is not the plan in flight")
        self._in_flight = None
