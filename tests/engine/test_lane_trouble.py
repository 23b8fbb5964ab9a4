"""A lane with failures: failing steps, bugs, and callbacks that raise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from dragoman_service.engine.lane import MAX_CONSECUTIVE_FAILURES
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Event
from dragoman_service.errors import Cancelled, EngineFailure
from support.builders import make_request, run_alone
from support.fake_runner import FakeRunner
from support.lanes import PATIENCE, Gate, Listener, MakeLane, lane_maker, submit
from support.poisoned import PoisonedRunner, request_of


@pytest.fixture
def make_lane() -> Iterator[MakeLane]:
    with lane_maker() as make:
        yield make


class Trouble:
    """Raises in the steps with the given numbers."""

    def __init__(self, *steps: int) -> None:
        self._steps = steps
        self._count = 0

    def __call__(self, plan: StepPlan) -> None:
        self._count += 1
        if self._count in self._steps:
            raise MemoryError(f"step {self._count}")


def test_a_failed_step_fails_who_runs_and_spares_who_waits(make_lane: MakeLane) -> None:
    engine = make_lane(before_run=Trouble(1), start=False, max_rows=1)
    first, second = submit(engine, make_request(1)), submit(engine, make_request(2))
    engine.start()
    error = first.error()
    assert isinstance(error, EngineFailure)
    assert "step 1" in str(error)
    assert second.hypotheses() == run_alone(make_request(2)).hypotheses
    assert engine.healthy
    assert engine.stats().totals.failed_steps == 1


def test_failures_with_a_good_step_in_between_are_survived(make_lane: MakeLane) -> None:
    engine = make_lane(before_run=Trouble(1, 2, 4, 5), max_rows=1)
    for request_id in range(4):
        submit(engine, make_request(request_id, min_length=3)).until_last()
    assert engine.healthy
    assert engine.stats().totals.failed_steps == 4


def test_too_many_failures_in_a_row_are_the_end(make_lane: MakeLane) -> None:
    runner = FakeRunner(1, before_run=Trouble(*range(1, 100)))
    runner.broken = True
    engine = make_lane(runner=runner, start=False, max_rows=1)
    listeners = [submit(engine, make_request(request_id)) for request_id in range(MAX_CONSECUTIVE_FAILURES + 3)]
    engine.start()
    assert {type(listener.error()) for listener in listeners} == {EngineFailure}
    assert engine.drain(PATIENCE)
    assert not engine.healthy
    assert engine.stats().totals.failed_steps == MAX_CONSECUTIVE_FAILURES
    assert (engine.stats().waiting, engine.stats().rows_used) == (0, 0)


def test_the_neighbours_of_who_makes_steps_fail_get_what_they_get_alone(make_lane: MakeLane) -> None:
    requests = [request_of(n, stream=True) for n in range(6)]
    runner = PoisonedRunner(6, [requests[4]], position=2)
    engine = make_lane(runner=runner, start=False, max_rows=6)
    listeners = [submit(engine, request) for request in requests]
    engine.start()
    assert isinstance(listeners.pop(4).error(), EngineFailure)
    del requests[4]
    for request, listener in zip(requests, listeners, strict=True):
        assert listener.hypotheses() == run_alone(request).hypotheses
    assert engine.drain(PATIENCE)
    assert (runner.failed, runner.probes) == (4, 1)  # of all, of 3, of 2, and alone: only then is the engine in doubt
    assert engine.healthy
    stats = engine.stats()
    assert (stats.waiting, stats.running, stats.rows_used, stats.totals.failed_steps) == (0, 0, 0, 4)


def test_after_a_lone_failure_the_engine_is_probed(make_lane: MakeLane) -> None:
    runner = FakeRunner(1, before_run=Trouble(1))
    engine = make_lane(runner=runner, max_rows=1)
    submit(engine, make_request(1)).error()
    submit(engine, make_request(2)).hypotheses()
    assert engine.drain(PATIENCE)
    assert runner.probes == 1


def test_one_poisonous_request_again_and_again_does_not_kill_the_engine(make_lane: MakeLane) -> None:
    poison = request_of(1)
    runner = PoisonedRunner(8, [poison])
    engine = make_lane(runner=runner)
    for _ in range(10):
        assert isinstance(submit(engine, poison).error(), EngineFailure)
    assert submit(engine, request_of(2)).hypotheses() == run_alone(request_of(2)).hypotheses
    assert engine.healthy
    assert runner.probes == 10


def test_a_good_step_between_failing_probes_is_a_new_beginning(make_lane: MakeLane) -> None:
    poison, good = request_of(1), request_of(2)
    runner = PoisonedRunner(8, [poison])
    runner.broken = True
    engine = make_lane(runner=runner)
    for _ in range(3):
        for _ in range(MAX_CONSECUTIVE_FAILURES - 1):
            submit(engine, poison).error()
        submit(engine, good).hypotheses()
    assert engine.healthy


class Fickle(PoisonedRunner):
    """Every third probe succeeds."""

    def probe(self) -> None:
        self.broken = self.probes % 3 != 2
        super().probe()


def test_a_good_probe_between_failing_ones_is_a_new_beginning_too(make_lane: MakeLane) -> None:
    engine = make_lane(runner=Fickle(8, [request_of(1)]))
    for _ in range(4 * MAX_CONSECUTIVE_FAILURES):
        submit(engine, request_of(1)).error()
    submit(engine, request_of(2)).hypotheses()
    assert engine.healthy


class Babbler(FakeRunner):
    """Breaks the contract: a result without rows."""

    def run(self, plan: StepPlan) -> StepResult:
        return StepResult([], [])


def test_a_bug_on_the_engine_thread_leaves_nobody_waiting(
    make_lane: MakeLane, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_lane(runner=Babbler(1), start=False, max_rows=1)
    listeners = [submit(engine, make_request(request_id)) for request_id in range(3)]
    engine.start()
    for listener in listeners:
        assert "the engine has died" in str(listener.error())
    assert engine.drain(PATIENCE)
    assert not engine.healthy
    assert "the engine has died" in caplog.text
    engine.cancel(0)


def test_a_dead_engine_takes_no_requests(make_lane: MakeLane) -> None:
    engine = make_lane(runner=Babbler(8))
    submit(engine, make_request(1)).error()
    with pytest.raises(EngineFailure, match="has died"):
        submit(engine, make_request(2))


def test_a_callback_that_raises_hurts_nobody_else(make_lane: MakeLane, caplog: pytest.LogCaptureFixture) -> None:
    def bad(events: Sequence[Event]) -> None:
        raise RuntimeError("no interest")

    engine = make_lane(start=False)
    engine.submit(make_request(1, stream=True), bad)
    other = submit(engine, make_request(2))
    engine.start()
    other.hypotheses()
    assert engine.drain(PATIENCE)
    assert engine.healthy
    assert "a callback failed on events of requests [1]" in caplog.text


def test_a_callback_may_submit_and_cancel(make_lane: MakeLane) -> None:
    engine = make_lane()
    second, third = Listener(), Listener()

    def chain(events: Sequence[Event]) -> None:
        engine.submit(make_request(2), second)
        engine.submit(make_request(3, min_length=9), third)
        engine.cancel(3)

    engine.submit(make_request(1), chain)
    second.hypotheses()
    assert isinstance(third.error(), Cancelled)


def test_a_step_that_fails_while_the_queue_is_full_costs_nobody_anything(make_lane: MakeLane) -> None:
    """Requests that run again are accepted only once: waiting requests are neither displaced nor refused."""
    gate, failed = Gate(), []

    def before(plan: StepPlan) -> None:
        gate(plan)
        if plan.num_rows == 4 and not failed:
            failed.append(plan)
            raise MemoryError("once")

    engine = make_lane(before_run=before, max_rows=4, start=False)
    listeners = [submit(engine, make_request(request_id)) for request_id in range(4)]
    engine.start()
    gate.await_step()
    listeners += [submit(engine, make_request(request_id)) for request_id in range(4, 12)]
    gate.let_all_through()
    for request_id, listener in enumerate(listeners):
        assert listener.hypotheses() == run_alone(make_request(request_id)).hypotheses
    assert engine.healthy
    assert engine.stats().totals.failed_steps == 1
