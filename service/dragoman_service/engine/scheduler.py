"""Continuous batching as a pure state machine: which requests join, which rows are in a step, which requests end.

The scheduler has no runtime, clock or thread: times and results are passed in. A lane makes three calls for each step:
`plan = scheduler.plan()`, `result = runner.run(plan)`, `events = scheduler.commit(plan, result, now)`.
"""

from __future__ import annotations

import math
from collections import Counter
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import Any

from dragoman_service.engine.active_request import ActiveRequest, Waiting
from dragoman_service.engine.batch import Batch
from dragoman_service.engine.client_limit import ClientLimit
from dragoman_service.engine.fair_queue import WEIGHTS, FairQueue
from dragoman_service.engine.latency_estimate import LatencyEstimate
from dragoman_service.engine.plan import Join, StepPlan, StepResult, with_wide_rows
from dragoman_service.engine.request import Event, Failed, Request, check_request
from dragoman_service.engine.retry_groups import RetryGroups
from dragoman_service.engine.search.utf8 import NO_BYTE_PIECES, BytePieces

OVERTAKING = 4
"""While a request waits for more rows than are free, later requests may take this many times `max_rows` in all."""
MOST_INTERRUPTIONS = 2
"""A request is interrupted so many times at most, or one that needs many rows would never end beside short ones."""
_OVERTAKERS = 32
"""Number of waiting requests that are searched for one that fits into the free rows."""
_SLACK = 64
"""Deadlines that may be kept beside two for each request."""


class Scheduler:
    """Plans the steps of one running batch and applies their results.

    Requests wait in a fair queue. The head of the queue joins as soon as its rows are free. The requests of a failed
    step run again in smaller groups before any other request joins. A repeated request produces the same tokens.

    A client that holds few rows need not wait until those of another client's long requests are free: the youngest of
    these are interrupted, and run again later.

    Rows do not move between `plan` and `commit`, so `add`, `abort` and `expire` are allowed at any time.
    """

    def __init__(  # noqa: PLR0913 - limits, all of them named by callers
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
        max_client_rows: int | None = None,
        vocab_size: int | None = None,
        byte_pieces: BytePieces = NO_BYTE_PIECES,
    ) -> None:
        """Make a scheduler without requests.

        Args:
            max_rows: Rows of the running batch.
            end_id: The token that ends a sentence.
            begin_id: The token that is fed first.
            max_encode_tokens: Maximum number of source tokens encoded in one step, because the running rows wait for
                the encoder. The first request of a step may exceed it.
            stream_interval: Minimum number of seconds between two `Progress` events of a request.
            max_steps: Maximum number of decoder steps in one plan. A plan has more than one only while no request
                waits and none must be examined after each step.
            look_ahead: Whether a plan lists the sources that will join next.
            max_positions: Number of target positions of the model; None means no limit.
            max_client_rows: Maximum number of rows of one client while other clients are served. One request may
                exceed it. None means `max_rows`.
            vocab_size: Number of target ids, which restrictions, byte pieces and `never_empty` need.
            byte_pieces: Those of the target vocabulary.
        """
        client_rows = max_rows if max_client_rows is None else max_client_rows
        limits = {"max_rows": max_rows, "max_client_rows": client_rows, "max_encode_tokens": max_encode_tokens}
        for name, value in (limits | {"max_steps": max_steps}).items():
            if value < 1:
                raise ValueError(f"{name}: got {value}; allowed: 1 or more")
        self.max_rows = max_rows
        self._max_positions = max_positions
        self.latency = LatencyEstimate()
        self._max_encode_tokens = max_encode_tokens
        self._stream_interval = stream_interval
        self._max_steps = max_steps
        self._look_ahead = look_ahead
        self._vocab_size = vocab_size
        limits = {"vocab_size": vocab_size or 0} | ({} if max_positions is None else {"max_positions": max_positions})
        self._batch = Batch(max_rows, begin_id=begin_id, end_id=end_id, byte_pieces=byte_pieces, **limits)
        self._waiting = FairQueue()
        self._client_limit = ClientLimit(client_rows) if client_rows < max_rows else None
        self._num_plans = 0
        self._retry_groups = RetryGroups()
        self._blocked: int | None = None  # id of the request that came to the head of the queue and needs more rows
        self._overtaken: Counter[int] = Counter()  # id of such a request -> rows given to later ones meanwhile
        self.interrupted = 0
        """Number of requests that were interrupted for another client."""
        self._retrying = False  # whether the running requests are a retry group
        self._joined: list[ActiveRequest] = []  # requests that join in the plan in flight
        self._in_flight: StepPlan | None = None
        self._deadlines: list[tuple[float, int]] = []  # a heap of (time of the next check, request id)

    @property
    def num_waiting(self) -> int:
        """Number of requests that own no rows: those in the queue and those of retry groups."""
        return len(self._waiting) + len(self._retry_groups)

    @property
    def num_running(self) -> int:
        """Number of requests that own rows."""
        return len(self._batch.active)

    @property
    def has_work(self) -> bool:
        """Whether any request is waiting or running. `plan` returns a plan exactly then."""
        return bool(self._batch.active or self.num_waiting)

    @property
    def rows_used(self) -> int:
        """Number of rows that requests own."""
        return self._batch.num_used

    @property
    def cached_positions(self) -> int:
        """Positions in use in the self- and cross-attention caches, summed over the owned rows."""
        return self._batch.cached_positions

    def validate(self, request: Request) -> None:
        """Raise `InvalidInput` for a request that can never run here. Reads constants only: any thread may call it."""
        check_request(request, self.max_rows, self._max_positions)

    def add(self, request: Request, now: float) -> None:
        """Put a request, submitted at `now`, at the end of the queue.

        Raises `InvalidInput` as `validate` does, and `ValueError` for an id in use. The queue is unbounded: the permits
        of the engine limit the number of requests.
        """
        self.validate(request)
        if (request.restrictions or request.options.never_empty) and self._vocab_size is None:
            raise ValueError(f"request {request.id} may be restricted, and the scheduler has no vocab_size")
        if self._is_known(request.id):
            raise ValueError(f"request id {request.id} is in use")
        self._waiting.push(Waiting(request, now))
        if request.deadline is not None:
            heappush(self._deadlines, (self.latency.latest_start(request), request.id))

    def abort(self, request_id: int, error: Exception) -> list[Event]:
        """End a request with `error` and return its final event; its rows are free for the next plan.

        Returns no event if the scheduler does not have the request, for example because it has ended.
        """
        if request_id in self._batch.active:
            self._leave(request_id)
        elif self._waiting.remove(request_id):
            self._overtaken.pop(request_id, None)
        elif not self._retry_groups.remove(request_id):
            return []
        return [Failed(request_id, error)]

    def expire(self, now: float) -> list[Event]:
        """Fail every request whose deadline has passed, and waiting requests that cannot finish before their deadline.

        Returns the final events of these requests.
        """
        events: list[Event] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, request_id = heappop(self._deadlines)
            active = self._batch.active.get(request_id)
            if active is not None:
                request = active.request
                until = math.inf if request.deadline is None else request.deadline
            else:
                waiting = self._waiting.get(request_id) or self._retry_groups.get(request_id)
                if waiting is None:  # the request has ended
                    continue
                request, until = waiting.request, self.latency.latest_start(waiting.request)
            if until <= now:
                events += self.abort(request_id, self.latency.too_late(request, now))
            else:
                heappush(self._deadlines, (until, request_id))
        if len(self._deadlines) > _SLACK + 2 * (self.num_running + self.num_waiting):
            self._deadlines = [entry for entry in self._deadlines if self._is_known(entry[1])]
            heapify(self._deadlines)
        return events

    def _is_known(self, request_id: int) -> bool:
        return request_id in self._batch.active or request_id in self._waiting or request_id in self._retry_groups

    def plan(self) -> StepPlan | None:
        """Return the plan of the next step; None exactly if no request is waiting or running.

        `commit` or `fail_step` must be called before the next plan. Raises RuntimeError otherwise.
        """
        if self._in_flight is not None:
            raise RuntimeError("the last plan was neither committed nor failed")
        if not self.has_work:
            return None
        batch = self._batch
        self._num_plans += 1
        self._joined = []
        # Before `close_holes`: requests that join take the holes, which saves copies.
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
            # While a request waits, it may be able to join in the next step.
            num_steps=1 if batch.num_watched or self.num_waiting else self._max_steps,
            upcoming=self._waiting.sources(self._max_encode_tokens) if self._look_ahead else (),
            masks=batch.masks(),
            wide_rows=batch.wide_rows,
            num_wide_candidates=batch.num_wide_candidates,
        )
        return self._in_flight

    def _admit(self) -> list[Join]:
        """Let requests join, in the order of the queue, while there are free rows and encoder budget.

        A retry group runs without other requests: all of it joins once no request runs. Its rows suffice, because all
        of its requests were running at once before.
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
            if self._blocked is not None:
                self._overtaken[self._blocked] += request.options.num_rows
            self._overtaken.pop(request.id, None)
            self._waiting.serve(request.id)
            joins.append(self._join(waiting))
        return joins

    def _next(self) -> Waiting | None:
        """Return the request to join next: the head of the queue, or a later one if the head needs more rows than free.

        The head is the first request whose client may hold its rows. Requests that overtake the head may take
        `OVERTAKING * max_rows` rows in all. After that, free rows are kept for the head.
        """
        free = self._batch.num_free
        head = None if self._blocked is None else self._waiting.get(self._blocked)
        if head is None or not self._may_join(head):
            head = next(filter(self._may_join, self._waiting.heads()), None)
            self._blocked = None if head is None else head.request.id
        if head is None or head.request.options.num_rows <= free:
            self._blocked = None
            return head
        # Not after a request has joined in this plan: it would have to move to the rows that become free.
        if not self._joined and (interrupter := self._interrupter()) is not None:
            return interrupter
        if not free or self._rows_are_kept:
            return None
        candidates = islice(self._waiting.of_flows(self._may_join), _OVERTAKERS)
        fitting = (waiting for waiting in candidates if waiting.request.options.num_rows <= free)
        return next(filter(self._may_join, fitting), None)

    def _may_join(self, waiting: Waiting) -> bool:
        request, limit = waiting.request, self._client_limit
        return limit is None or limit.allows(
            request.client, request.options.num_rows, self._batch.rows_of, self._num_plans
        )

    @property
    def _rows_are_kept(self) -> bool:
        """Whether free rows are kept for the request that came to the head of the queue and needs more."""
        return self._blocked is not None and self._overtaken[self._blocked] >= OVERTAKING * self.max_rows

    def _interrupter(self) -> Waiting | None:
        """Return the first waiting request for which others were interrupted; None, usually, if there is none."""
        if self._waiting.num_flows == 1:
            head = self._waiting.head()
            return head if head is not None and self._make_room(head.request) else None  # it may join: see `_next`
        tried: set[str] = set()
        for waiting in islice(self._waiting.heads(), _OVERTAKERS):
            client = waiting.request.client
            if client not in tried and self._may_join(waiting) and self._make_room(waiting.request):
                return waiting
            tried.add(client)
        return None

    def _make_room(self, request: Request) -> bool:
        """Interrupt requests of clients that would hold more rows than the client of `request` with its new rows.

        Returns False, and does nothing, if the rows of these do not suffice. The youngest requests are interrupted, and
        none more often than `MOST_INTERRUPTIONS` says. The differences between clients only shrink, so two clients
        cannot interrupt each other again and again. Rows that are kept for another request are not used.
        """
        own = self._batch.rows_of[request.client] + request.options.num_rows
        if max(self._batch.rows_of.values(), default=0) <= own:
            return False
        kept = self._rows_are_kept and request.id != self._blocked
        held, free = Counter(self._batch.rows_of), 0 if kept else self._batch.num_free
        running = [
            active
            for active in reversed(self._batch.active.values())
            if WEIGHTS[active.request.priority] <= WEIGHTS[request.priority]
            and active.interruptions < MOST_INTERRUPTIONS
        ]
        interrupted: list[ActiveRequest] = []
        while free < request.options.num_rows:
            most = max((held[active.request.client] for active in running), default=0)
            if most <= own:
                return False
            victim = next(active for active in running if held[active.request.client] == most)
            running.remove(victim)
            interrupted.append(victim)
            held[victim.request.client] -= len(victim.rows)
            free += len(victim.rows)
        for active in interrupted:
            self._leave(active.request.id)
            self._waiting.push_front(active.interrupted())
        self.interrupted += len(interrupted)
        return True

    def _leave(self, request_id: int) -> None:
        """Free the rows of a request, and charge its steps to its client."""
        active = self._batch.active[request_id]
        self._waiting.charge(active.request, self._batch.position(active))
        self._batch.leave(request_id)

    def _join(self, waiting: Waiting) -> Join:
        join = self._batch.join(waiting)
        self._joined.append(self._batch.active[waiting.request.id])
        if self._client_limit is not None:
            self._client_limit.joined(waiting.request.client, self._num_plans)
        return join

    def commit(self, plan: StepPlan, result: StepResult, now: float) -> list[Event]:
        """Apply the result of `plan`, which the runner returned at `now`; returns the events of the step.

        Requests that were aborted since the plan was made get no events.
        """
        self._take_in_flight(plan)
        self.latency.step(plan.num_rows, (result.encode_seconds + result.decode_seconds) / plan.num_steps)
        for active in self._joined:
            active.begin(result, now)
        events: list[Event] = []
        steps = (with_wide_rows(plan, result), *result.later)
        for (token_ids, log_probs), positions in zip(steps, result.aligned or (None,) * len(steps), strict=True):
            self._advance(token_ids, log_probs, positions, now, events)
        return events

    def _advance(self, token_ids: object, log_probs: object, aligned: Any, now: float, events: list[Event]) -> None:
        """Apply the candidates of one decoder step and add its events to `events`."""
        batch = self._batch
        step = batch.advance(token_ids, log_probs, aligned)
        for active, error in step.failed:
            events += self.abort(active.request.id, error)
        for active, restriction in step.rejected.values():
            if active.request.id in batch.active:  # another of its rows may have failed
                self._leave(active.request.id)
                self._waiting.push_front(active.restricted(restriction))
        for active in step.ended:
            if active.request.id not in batch.active:
                continue
            self.latency.ended(len(active.request.source), batch.position(active))
            self._leave(active.request.id)
            if active.request.stream:
                events += active.last_progress()
            events.append(active.ended(now))
        if batch.num_watched:
            events += batch.progress(now, self._stream_interval)

    def fail_step(self, plan: StepPlan, error: Exception) -> list[Event]:
        """Handle a failed step, which has lost the caches of its rows; returns the final event of a failed request.

        A request that ran alone fails with `error`. Several requests run again from their first token, in two groups
        that are split again if they fail.
        """
        self._take_in_flight(plan)
        group = [active.again() for active in self._batch.active.values()]
        if len(group) == 1 and group[0].request.options.num_rows == plan.num_rows:
            return self.abort(group[0].request.id, error)
        for waiting in group:
            self._batch.leave(waiting.request.id)
        if group:
            self._retry_groups.split(group)
        return []

    def _take_in_flight(self, plan: StepPlan) -> None:
        """Check that `plan` is the plan in flight, and allow the next plan. Raises RuntimeError otherwise."""
        if plan is not self._in_flight:
            raise RuntimeError("this is not the plan in flight")
        self._in_flight = None
