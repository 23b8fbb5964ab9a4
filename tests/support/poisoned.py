"""A scheduler over a runner that fails every step with a row of certain requests, and the events of all requests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence

from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Event, Failed, Finished, Progress, Request
from dragoman_service.errors import Cancelled, EngineFailure
from support import invariants
from support.builders import make_request, make_scheduler, run_alone, streamed
from support.fake_runner import END, FakeRunner

MOST_STEPS = 1000

alone = functools.cache(run_alone)


def request_of(number: int, *, beam_size: int = 1, stream: bool = False, min_length: int = 3) -> Request:
    """Make a request whose source depends on `number`."""
    source = (4 + number % 16, 4 + number // 16, END)
    options = {"beam_size": beam_size, "min_length": min_length}
    return make_request(number, source=source, max_length=6, stream=stream, **options)


class PoisonedRunner(FakeRunner):
    """Fails every step with a row of a culprit at `position` or later.

    It loses all caches then, as a real runner may.
    """

    def __init__(self, max_rows: int, culprits: Iterable[Request], position: int = 0) -> None:
        super().__init__(max_rows)
        self.failed = 0
        self._max_rows = max_rows
        self._poison = {request.source for request in culprits}
        self._position = position
        self._on_row: list[tuple[int, ...]] = [()] * max_rows

    def run(self, plan: StepPlan) -> StepResult:
        for copy in plan.copies:
            if copy.cross:
                self._on_row[copy.target] = self._on_row[copy.source]
        for join in plan.joins:
            for row in join.rows:
                self._on_row[row] = join.source
        if any(self._on_row[row] in self._poison and plan.positions[row] >= self._position for row in rows_of(plan)):
            self.failed += 1
            self._sources = [()] * self._max_rows
            self._fed = [[] for _ in range(self._max_rows)]
            raise MemoryError("poison")
        return super().run(plan)


def rows_of(plan: StepPlan) -> range:
    return range(len(plan.tokens))


class Bench:
    """A scheduler, a poisoned runner, and the events of all requests."""

    def __init__(
        self, requests: Sequence[Request], culprits: Sequence[Request], *, position: int = 0, max_rows: int = 0
    ) -> None:
        self.rows = max_rows or sum(request.options.num_rows for request in requests)
        self.scheduler = make_scheduler(max_rows=self.rows)
        self.runner = PoisonedRunner(self.rows, culprits, position)
        self.events: list[Event] = []
        self.joined: list[list[tuple[int, ...]]] = []
        """The sources that joined, for each plan."""
        self.batches: list[set[int]] = []
        """The ids of the running requests, for each plan."""
        for request in requests:
            self.scheduler.add(request, 0.0)

    def step(self, meanwhile: Callable[[], object] = lambda: None) -> list[Event]:
        """Perform one step. `meanwhile` is called while it runs."""
        plan = self.scheduler.plan()
        assert plan is not None
        assert invariants.check(invariants.snapshot_of(self.scheduler)) == []
        assert invariants.check_plan(plan, invariants.snapshot_of(self.scheduler)) == []
        self.joined.append([join.source for join in plan.joins])
        self.batches.append({each.request_id for each in invariants.snapshot_of(self.scheduler).running})
        try:
            result = self.runner.run(plan)
        except MemoryError as error:
            meanwhile()
            events = self.scheduler.fail_step(plan, EngineFailure(str(error)))
            assert self.scheduler.num_running == 0
            assert self.scheduler.rows_used == 0
        else:
            meanwhile()
            events = self.scheduler.commit(plan, result, 0.0)
        assert invariants.check(invariants.snapshot_of(self.scheduler)) == []
        self.events += events
        return events

    def until_failed(self, times: int = 1) -> None:
        """Perform steps until `times` steps have failed in all."""
        while self.runner.failed < times:
            self.step()

    def to_end(self) -> None:
        while self.scheduler.has_work:
            self.step()
            assert len(self.joined) < MOST_STEPS, "the requests do not end"

    def abort(self, request: Request) -> None:
        (event,) = self.scheduler.abort(request.id, Cancelled("gone"))
        self.events.append(event)

    def failures(self) -> dict[int, type[Exception]]:
        return {event.request_id: type(event.error) for event in self.events if isinstance(event, Failed)}

    def check_the_others(self, requests: Iterable[Request]) -> None:
        """Check that requests that have not failed got the same result as alone, and each request one final event.

        Streams must have got every token once.
        """
        failed = self.failures()
        last = [event for event in self.events if not isinstance(event, Progress)]
        assert sorted(event.request_id for event in last) == sorted(request.id for request in requests)
        finished = {event.request_id: event.hypotheses for event in last if isinstance(event, Finished)}
        for request in requests:
            expected = alone(request).hypotheses
            tokens = streamed(self.events, request.id)
            if request.id in failed:
                assert tokens == expected[0].tokens[: len(tokens)]
                continue
            assert finished[request.id] == expected
            assert tokens == (expected[0].tokens if request.stream else ())
