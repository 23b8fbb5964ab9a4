"""The engine when things go wrong: failing steps, bugs, callbacks and observers that raise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from dragoman_service.engine.engine import MAX_CONSECUTIVE_FAILURES
from dragoman_service.engine.observer import EngineObserver, EngineStats
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Event, Request
from dragoman_service.errors import Cancelled, EngineFailure, Overloaded
from support.builders import make_request, run_alone
from support.engines import PATIENCE, Gate, Listener, MakeEngine, engine_maker, submit
from support.fake_runner import FakeRunner
from support.poisoned import PoisonedRunner, request_of


@pytest.fixture
def make_engine() -> Iterator[MakeEngine]:
    with engine_maker() as make:
        yield make


class Trouble:
    """Raises in the steps of the given numbers."""

    def __init__(self, *steps: int) -> None:
        self._steps = steps
        self._count = 0

    def __call__(self, plan: StepPlan) -> None:
        self._count += 1
        if self._count in self._steps:
            raise MemoryError(f"step {self._count}")


def test_a_failed_step_fails_who_runs_and_spares_who_waits(make_engine: MakeEngine) -> None:
    engine = make_engine(before_run=Trouble(1), start=False, max_rows=1)
    first, second = submit(engine, make_request(1)), submit(engine, make_request(2))
    engine.start()
    error = first.error()
    assert isinstance(error, EngineFailure)
    assert "step 1" in str(error)
    assert second.hypotheses() == run_alone(make_request(2)).hypotheses
    assert engine.healthy
    assert engine.stats().failed_steps == 1


def test_failures_with_a_good_step_in_between_are_survived(make_engine: MakeEngine) -> None:
    engine = make_engine(before_run=Trouble(1, 2, 4, 5), max_rows=1)
    for request_id in range(4):
        submit(engine, make_request(request_id, min_length=3)).until_last()
    assert engine.healthy
    assert engine.stats().failed_steps == 4


def test_too_many_failures_in_a_row_are_the_end(make_engine: MakeEngine) -> None:
    runner = FakeRunner(1, before_run=Trouble(*range(1, 100)))
    runner.broken = True
    engine = make_engine(runner=runner, start=False, max_rows=1)
    listeners = [submit(engine, make_request(request_id)) for request_id in range(MAX_CONSECUTIVE_FAILURES + 3)]
    engine.start()
    assert {type(listener.error()) for listener in listeners} == {EngineFailure}
    assert engine.drain(PATIENCE)
    assert not engine.healthy
    assert engine.stats().failed_steps == MAX_CONSECUTIVE_FAILURES
    assert (engine.stats().waiting, engine.stats().rows_used) == (0, 0)


def test_the_neighbours_of_who_makes_steps_fail_get_what_they_get_alone(make_engine: MakeEngine) -> None:
    requests = [request_of(n, stream=True) for n in range(6)]
    runner = PoisonedRunner(6, [requests[4]], position=2)
    engine = make_engine(runner=runner, start=False, max_rows=6)
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
    assert (stats.waiting, stats.running, stats.rows_used, stats.failed_steps) == (0, 0, 0, 4)


def test_after_a_lone_failure_the_engine_is_probed(make_engine: MakeEngine) -> None:
    runner = FakeRunner(1, before_run=Trouble(1))
    engine = make_engine(runner=runner, max_rows=1)
    submit(engine, make_request(1)).error()
    submit(engine, make_request(2)).hypotheses()
    assert engine.drain(PATIENCE)
    assert runner.probes == 1


def test_one_poisonous_request_again_and_again_does_not_kill_the_engine(make_engine: MakeEngine) -> None:
    poison = request_of(1)
    runner = PoisonedRunner(8, [poison])
    engine = make_engine(runner=runner)
    for _ in range(10):
        assert isinstance(submit(engine, poison).error(), EngineFailure)
    assert submit(engine, request_of(2)).hypotheses() == run_alone(request_of(2)).hypotheses
    assert engine.healthy
    assert runner.probes == 10


def test_a_good_step_between_failing_probes_is_a_new_beginning(make_engine: MakeEngine) -> None:
    poison, good = request_of(1), request_of(2)
    runner = PoisonedRunner(8, [poison])
    runner.broken = True
    engine = make_engine(runner=runner)
    for _ in range(3):
        for _ in range(MAX_CONSECUTIVE_FAILURES - 1):
            submit(engine, poison).error()
        submit(engine, good).hypotheses()
    assert engine.healthy


class Fickle(PoisonedRunner):
    """Every third probe is good."""

    def probe(self) -> None:
        self.broken = self.probes % 3 != 2
        super().probe()


def test_a_good_probe_between_failing_ones_is_a_new_beginning_too(make_engine: MakeEngine) -> None:
    engine = make_engine(runner=Fickle(8, [request_of(1)]))
    for _ in range(4 * MAX_CONSECUTIVE_FAILURES):
        submit(engine, request_of(1)).error()
    submit(engine, request_of(2)).hypotheses()
    assert engine.healthy


class Babbler(FakeRunner):
    """Breaks the contract: a result without rows."""

    def run(self, plan: StepPlan) -> StepResult:
        return StepResult([], [])


def test_a_bug_on_the_engine_thread_leaves_nobody_waiting(
    make_engine: MakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = make_engine(runner=Babbler(1), start=False, max_rows=1)
    listeners = [submit(engine, make_request(request_id)) for request_id in range(3)]
    engine.start()
    for listener in listeners:
        assert "the engine has died" in str(listener.error())
    assert engine.drain(PATIENCE)
    assert not engine.healthy
    assert "the engine has died" in caplog.text
    engine.cancel(0)


def test_a_dead_engine_takes_no_requests(make_engine: MakeEngine) -> None:
    engine = make_engine(runner=Babbler(8))
    submit(engine, make_request(1)).error()
    with pytest.raises(EngineFailure, match="has died"):
        submit(engine, make_request(2))


def test_a_callback_that_raises_hurts_nobody_else(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    def bad(events: Sequence[Event]) -> None:
        raise RuntimeError("no interest")

    engine = make_engine(start=False)
    engine.submit(make_request(1, stream=True), bad)
    other = submit(engine, make_request(2))
    engine.start()
    other.hypotheses()
    assert engine.drain(PATIENCE)
    assert engine.healthy
    assert "a callback failed on events of requests [1]" in caplog.text


def test_a_callback_may_submit_and_cancel(make_engine: MakeEngine) -> None:
    engine = make_engine()
    second, third = Listener(), Listener()

    def chain(events: Sequence[Event]) -> None:
        engine.submit(make_request(2), second)
        engine.submit(make_request(3, min_length=9), third)
        engine.cancel(3)

    engine.submit(make_request(1), chain)
    second.hypotheses()
    assert isinstance(third.error(), Cancelled)


class Recorder(EngineObserver):
    def __init__(self) -> None:
        self.steps: list[EngineStats] = []
        self.events: list[Event] = []

    def step(self, plan: StepPlan, result: StepResult, seconds: float, stats: EngineStats) -> None:
        assert seconds >= 0
        self.steps.append(stats)

    def event(self, request: Request, event: Event) -> None:
        assert request.id == event.request_id
        self.events.append(event)


def test_the_observer_is_told_of_steps_and_events(make_engine: MakeEngine) -> None:
    recorder = Recorder()
    engine = make_engine(observer=recorder)
    events = submit(engine, make_request(1, stream=True)).until_last()
    engine.close()
    assert recorder.events == events
    assert [stats.steps for stats in recorder.steps] == list(range(1, len(recorder.steps) + 1))
    assert recorder.steps[-1].rows_used == 0


class BadObserver(EngineObserver):
    def step(self, plan: StepPlan, result: StepResult, seconds: float, stats: EngineStats) -> None:
        raise RuntimeError("no step")

    def event(self, request: Request, event: Event) -> None:
        raise RuntimeError("no event")


def test_an_observer_that_raises_does_no_harm(make_engine: MakeEngine, caplog: pytest.LogCaptureFixture) -> None:
    engine = make_engine(observer=BadObserver())
    assert submit(engine, make_request(1)).hypotheses() == run_alone(make_request(1)).hypotheses
    engine.close()
    assert engine.healthy
    assert "the observer failed on a step" in caplog.text
    assert "the observer failed on an event" in caplog.text


def test_a_step_that_fails_while_the_queue_is_full_costs_nobody_anything(make_engine: MakeEngine) -> None:
    """Those that run again were let in once: they take no place from those that wait, nor are these refused."""
    gate, failed = Gate(), []

    def before(plan: StepPlan) -> None:
        gate(plan)
        if plan.num_rows == 4 and not failed:
            failed.append(plan)
            raise MemoryError("once")

    engine = make_engine(before_run=before, max_rows=4, max_queue=8, start=False)
    listeners = [submit(engine, make_request(request_id)) for request_id in range(4)]
    engine.start()
    gate.await_step()
    listeners += [submit(engine, make_request(request_id)) for request_id in range(4, 12)]
    with pytest.raises(Overloaded):
        submit(engine, make_request(12))
    gate.let_all_through()
    for request_id, listener in enumerate(listeners):
        assert listener.hypotheses() == run_alone(make_request(request_id)).hypotheses
    assert engine.healthy
    assert engine.stats().failed_steps == 1
