"""Invariants of a scheduler and its plans: functions that return all violations."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dragoman_service.engine.active_request import ActiveRequest, Waiting
from dragoman_service.engine.plan import StepPlan
from dragoman_service.engine.scheduler import Scheduler


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A request that has not joined the running batch yet."""

    request_id: int
    num_rows: int
    """Rows that it will own."""
    source_length: int
    """Source tokens to encode."""


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """A request that owns rows of the running batch."""

    request_id: int
    num_rows: int
    """Rows that it must own according to its options."""
    rows: tuple[int, ...]
    """Rows that it owns."""
    source_length: int
    """Valid positions of cross attention."""
    position: int
    """Position of its next step, which is also the number of self-attention positions cached."""
    max_position: int
    """Largest position that it may reach."""


@dataclass(frozen=True, slots=True)
class SchedulerSnapshot:
    """The state of a scheduler at one moment."""

    max_rows: int
    extent: int
    """One more than the highest row that is owned or a hole."""
    holes: tuple[int, ...]
    """Rows below the extent that were freed. The next plan closes them."""
    cached_positions: int
    """Positions of self- and cross-attention that the rows owned have in the caches, as the scheduler counts them."""
    waiting: tuple[WaitingRequest, ...]
    """In the order in which they will join."""
    running: tuple[RunningRequest, ...]
    """In the order in which they joined."""
    suspects: tuple[WaitingRequest, ...] = ()
    """Requests of a failed step, in the order in which they will run again, before any other request joins."""

    @property
    def rows_used(self) -> int:
        """Rows owned by running requests."""
        return sum(len(request.rows) for request in self.running)


def snapshot_of(scheduler: Scheduler) -> SchedulerSnapshot:
    """Take a snapshot of a scheduler."""
    batch = scheduler._batch
    return SchedulerSnapshot(
        max_rows=scheduler.max_rows,
        extent=batch.extent,
        holes=batch.holes,
        cached_positions=scheduler.cached_positions,
        waiting=tuple(map(_waiting, scheduler._waiting)),
        suspects=tuple(map(_waiting, scheduler._retry_groups)),
        running=tuple(_running(active, batch.position(active)) for active in batch.active.values()),
    )


def _waiting(waiting: Waiting) -> WaitingRequest:
    request = waiting.request
    return WaitingRequest(request.id, request.options.num_rows, len(request.source))


def _running(active: ActiveRequest, position: int) -> RunningRequest:
    request = active.request
    most = len(request.forced) + request.max_length
    return RunningRequest(request.id, request.options.num_rows, tuple(active.rows), len(request.source), position, most)


def check(snapshot: SchedulerSnapshot) -> list[str]:
    """Return the violations in the state of a scheduler, at any time."""
    return [*_check_rows(snapshot), *_check_queue(snapshot), *_check_requests(snapshot)]


def check_plan(plan: StepPlan, snapshot: SchedulerSnapshot) -> list[str]:
    """Return the violations in a plan, given the state right after it was made."""
    return [*_check_step(plan, snapshot), *_check_writes(plan, snapshot), *_check_adjustments(plan)]


def _check_rows(snapshot: SchedulerSnapshot) -> list[str]:
    problems = []
    owned = Counter(row for request in snapshot.running for row in request.rows)
    problems += [f"row {row} is owned {count} times" for row, count in owned.items() if count > 1]
    problems += [f"row {row} is owned and a hole" for row in snapshot.holes if row in owned]
    covered = sorted({*owned, *snapshot.holes})
    if covered != list(range(snapshot.extent)):
        problems.append(f"rows owned and holes are {covered}, not 0 to {snapshot.extent - 1}")
    if snapshot.extent > snapshot.max_rows:
        problems.append(f"{snapshot.extent} rows reach over max_rows, which is {snapshot.max_rows}")
    return problems


def _check_queue(snapshot: SchedulerSnapshot) -> list[str]:
    problems = []
    for request in (*snapshot.waiting, *snapshot.suspects):
        if not 1 <= request.num_rows <= snapshot.max_rows:
            problems.append(f"request {request.request_id} waits for {request.num_rows} of {snapshot.max_rows} rows")
    return problems


def _check_requests(snapshot: SchedulerSnapshot) -> list[str]:
    ids = Counter([request.request_id for request in (*snapshot.waiting, *snapshot.suspects)])
    ids.update(request.request_id for request in snapshot.running)
    problems = [f"request id {request_id} is there {count} times" for request_id, count in ids.items() if count > 1]
    for request in snapshot.running:
        if len(request.rows) != request.num_rows:
            problems.append(f"request {request.request_id} owns {len(request.rows)} rows, not {request.num_rows}")
        if not 0 <= request.position <= request.max_position:
            problems.append(f"request {request.request_id} is at position {request.position} of {request.max_position}")
    cached = sum(len(request.rows) * (request.position + request.source_length) for request in snapshot.running)
    if cached != snapshot.cached_positions:
        problems.append(f"{cached} positions are cached, {snapshot.cached_positions} are counted")
    return problems


def _check_step(plan: StepPlan, snapshot: SchedulerSnapshot) -> list[str]:
    num_rows = len(plan.tokens)
    problems = []
    if snapshot.holes or num_rows != snapshot.rows_used:
        problems.append(f"the plan steps {num_rows} rows; {snapshot.rows_used} are owned, holes are {snapshot.holes}")
    if len(plan.positions) != num_rows or len(plan.source_lengths) != num_rows:
        lengths = f"{len(plan.positions)} positions, {len(plan.source_lengths)} source lengths"
        return [*problems, f"{num_rows} tokens, {lengths}"]
    for request in snapshot.running:
        for row in request.rows:
            planned = (int(plan.positions[row]), int(plan.source_lengths[row])) if row < num_rows else None
            if planned != (request.position, request.source_length):
                expected = (request.position, request.source_length)
                problems.append(f"row {row}: position and source length are {planned} in the plan, not {expected}")
    problems += [f"row {row}: selected, not stepped" for row in (*plan.wide_rows, *plan.masks.rows) if row >= num_rows]
    if len(set(plan.wide_rows)) < len(plan.wide_rows) or len(set(plan.masks.rows.tolist())) < len(plan.masks):
        problems.append(f"rows are selected twice: wide {plan.wide_rows}, masks {plan.masks.rows}")
    if plan.selects_rows and plan.num_steps > 1:
        problems.append(f"a plan of {plan.num_steps} steps selects rows")
    if plan.num_candidates < 1:
        problems.append(f"num_candidates is {plan.num_candidates}")
    return problems


def _check_writes(plan: StepPlan, snapshot: SchedulerSnapshot) -> list[str]:
    """Copies must stay within the rows, and joins must write exactly the rows of requests that have just joined."""
    problems = []
    for copy in plan.copies:
        if copy.source == copy.target or not 0 <= copy.source < snapshot.max_rows:
            problems.append(f"{copy}: bad source")
        if not 0 <= copy.target < len(plan.tokens):
            problems.append(f"{copy}: bad target")
    joined = sorted(row for join in plan.joins for row in join.rows)
    new = sorted(row for request in snapshot.running if request.position == 0 for row in request.rows)
    if joined != new:
        problems.append(f"rows {joined} are joined, rows {new} begin")
    written = {copy.target for copy in plan.copies}
    problems += [f"row {row} is copied to and joined" for row in joined if row in written]
    return problems


def _check_adjustments(plan: StepPlan) -> list[str]:
    counts = Counter((adjustment.row, adjustment.token) for adjustment in plan.adjustments)
    problems = [f"row {row}, token {token}: {count} adjustments" for (row, token), count in counts.items() if count > 1]
    problems += [f"row {row}: adjusted, not stepped" for row, _ in counts if not 0 <= row < len(plan.tokens)]
    return problems
