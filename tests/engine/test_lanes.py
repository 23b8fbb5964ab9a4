"""Lanes with the fake runner, and with stand-ins where a test needs fixed values."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from dragoman_service.engine.lane import Lane
from dragoman_service.engine.lanes import Division, Lanes, divide
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Event, Request
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.engine.stats import EngineStats, Totals
from dragoman_service.errors import Cancelled, EngineFailure, InvalidInput, ShuttingDown
from dragoman_service.repository.settings import ModelSettings
from support.builders import make_request, run_alone
from support.fake_runner import FakeRunner
from support.lanes import PATIENCE, Gate, Listener, MakeLane, lane_maker


@pytest.fixture
def make_lane() -> Iterator[MakeLane]:
    with lane_maker() as make:
        yield make


class StillLane:
    """A stand-in for a lane, with values set by the test."""

    def __init__(self, load: int = 0, refusal: Exception | None = None, *, healthy: bool = True) -> None:
        self.rows = load
        self.refusal = refusal
        self.healthy = healthy
        self.submitted: list[int] = []
        self.log: list[Any] = []
        self.drained = True
        self.backlog_seconds = 0.0
        self.on_drain: Callable[[float], None] = lambda timeout: None

    def start(self) -> None:
        self.log.append("start")

    def submit(self, request: Request, on_events: Callable[[Sequence[Event]], None]) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.submitted.append(request.id)
        self.rows += request.options.num_rows

    def cancel(self, request_id: int) -> None:
        self.log.append(("cancel", request_id))

    def stats(self) -> EngineStats:
        return EngineStats(*range(1, 6), Totals(failed_steps=6))

    def check_time(self, work: int, seconds: float) -> None:
        self.log.append(("check_time", work, seconds))

    def drain(self, timeout: float) -> bool:
        self.log.append(("drain", timeout))
        self.on_drain(timeout)
        return self.drained

    def close(self) -> None:
        self.log.append("close")


def submit(lanes: Lanes, request: Request) -> Listener:
    listener = Listener()
    lanes.submit(request, listener)
    return listener


def test_dead_lanes_do_no_part_of_the_work() -> None:
    parts = [StillLane(healthy=False), StillLane(), StillLane()]
    parts[0].backlog_seconds = 0.0
    parts[1].backlog_seconds, parts[2].backlog_seconds = 3.0, 2.0
    lanes = Lanes(parts)
    assert lanes.backlog_seconds == 2.0
    lanes.check_time(10, 1.0)
    assert [part.log for part in parts] == [[], [("check_time", 5, 1.0)], []]


# --- which lane


def test_a_request_goes_to_the_lane_with_the_fewest_rows() -> None:
    parts = [StillLane(), StillLane(), StillLane(load=5)]
    lanes = Lanes(parts)
    for request_id, beam_size in enumerate([3, 1, 1, 2, 1, 4, 1]):
        submit(lanes, make_request(request_id, beam_size=beam_size))
    # Loads: 3 0 5, 3 1 5, 3 2 5, 3 4 5, 4 4 5, 8 4 5, 8 5 5.
    assert [part.submitted for part in parts] == [[0, 4, 5], [1, 2, 3, 6], []]


@pytest.mark.parametrize("refusal", [InvalidInput("beam_size", 9, "at most 8"), ShuttingDown("late")])
def test_what_every_lane_would_refuse_is_refused_at_once(refusal: Exception) -> None:
    other = StillLane(load=1)
    with pytest.raises(type(refusal)):
        submit(Lanes([StillLane(refusal=refusal), other]), make_request(1))
    assert other.submitted == []


# --- side by side


def test_requests_get_what_they_would_get_alone_and_every_lane_works(make_lane: MakeLane) -> None:
    runners = [FakeRunner(6) for _ in range(3)]
    engines = [make_lane(runner=runner, start=False, max_rows=6) for runner in runners]
    lanes = Lanes(engines)
    requests = [make_request(number, beam_size=1 + number % 4) for number in range(90)]
    listeners = [submit(lanes, request) for request in requests]
    lanes.start()
    for request, listener in zip(requests, listeners, strict=True):
        assert listener.hypotheses() == run_alone(request).hypotheses
    assert all(engine.drain(PATIENCE) for engine in engines)
    assert all(runner.plans for runner in runners)
    assert lanes.stats().totals.source_tokens == sum(len(request.source) for request in requests)
    assert [engine.rows for engine in engines] == [0, 0, 0]


def test_lanes_step_at_the_same_time(make_lane: MakeLane) -> None:
    together = threading.Barrier(2)

    def meet(plan: StepPlan) -> None:
        together.wait(PATIENCE)  # breaks if the other lane does not come while this one is in its step

    lanes = Lanes([make_lane(before_run=meet) for _ in range(2)])
    listeners = [submit(lanes, make_request(number, min_length=5, max_length=5)) for number in range(2)]
    for listener in listeners:
        listener.hypotheses()


def test_a_cancel_finds_its_lane(make_lane: MakeLane) -> None:
    gates = [Gate(), Gate()]
    lanes = Lanes([make_lane(before_run=gate) for gate in gates])
    listeners = [submit(lanes, make_request(number, min_length=9)) for number in range(2)]
    for gate in gates:
        gate.await_step()
    lanes.cancel(1)
    lanes.cancel(77)
    for gate in gates:
        gate.let_all_through()
    assert isinstance(listeners[1].error(), Cancelled)
    assert listeners[0].hypotheses() == run_alone(make_request(0, min_length=9)).hypotheses


def test_stats_are_sums() -> None:
    lanes = Lanes([StillLane(), StillLane(), StillLane()])
    assert lanes.stats() == EngineStats(*range(3, 18, 3), Totals(failed_steps=18))


# --- trouble and the end


class Babbler(FakeRunner):
    """Breaks the contract: a result without rows."""

    def run(self, plan: StepPlan) -> StepResult:
        return StepResult([], [])


def test_a_dead_lane_makes_the_model_unhealthy_and_gets_no_more_work(make_lane: MakeLane) -> None:
    lanes = Lanes([make_lane(runner=Babbler(8)), make_lane()])
    assert lanes.healthy
    assert isinstance(submit(lanes, make_request(1)).error(), EngineFailure)
    for request_id in range(2, 9):
        assert submit(lanes, make_request(request_id)).hypotheses() == run_alone(make_request(request_id)).hypotheses
    assert not lanes.healthy


def test_a_lane_that_dies_while_it_is_asked_is_passed_over() -> None:
    dying, living = StillLane(refusal=EngineFailure("just now")), StillLane(load=1)
    submit(Lanes([dying, living]), make_request(1))
    assert living.submitted == [1]


def test_without_a_living_lane_nothing_is_taken() -> None:
    with pytest.raises(EngineFailure, match="all lanes have died"):
        submit(Lanes([StillLane(healthy=False), StillLane(healthy=False)]), make_request(1))


def test_close_ends_all_lanes_and_none_gets_the_work_of_another(make_lane: MakeLane) -> None:
    runners = [FakeRunner(8), FakeRunner(8)]
    lanes = Lanes([make_lane(runner=runner, start=False) for runner in runners])
    listeners = [submit(lanes, make_request(number)) for number in range(4)]
    lanes.close()
    assert {type(listener.error()) for listener in listeners} == {ShuttingDown}
    assert all(runner.closed for runner in runners)
    lanes.close()


def test_all_lanes_refuse_before_one_is_closed() -> None:
    parts = [StillLane(), StillLane()]
    seen: list[list[Any]] = []
    parts[1].on_drain = lambda timeout: seen.append(list(parts[0].log))
    Lanes(parts).close()
    assert seen == [[("drain", 0)]]
    assert [part.log for part in parts] == [[("drain", 0), "close"]] * 2


# --- how many


def config(**fields: Any) -> EngineSettings:
    return ModelSettings(engine=EngineSettings(**fields)).engine


@pytest.mark.parametrize(
    ("fields", "cores", "division"),
    [
        ({}, 1, Division(lanes=1, rows=64, threads=1, client_rows=16)),
        ({}, 2, Division(lanes=2, rows=32, threads=1, client_rows=8)),
        ({}, 3, Division(lanes=3, rows=22, threads=1, client_rows=8)),
        ({}, 4, Division(lanes=4, rows=16, threads=1, client_rows=8)),
        ({}, 16, Division(lanes=4, rows=16, threads=13, client_rows=8)),
        ({"threads": 2}, 16, Division(lanes=2, rows=32, threads=1, client_rows=8)),
        ({"threads": 6, "lanes": 2}, 1, Division(lanes=2, rows=32, threads=5, client_rows=8)),
        ({"lanes": 8, "max_rows": 80}, 8, Division(lanes=8, rows=10, threads=1, client_rows=8)),
        ({"max_rows": 33}, 2, Division(lanes=2, rows=17, threads=1, client_rows=8)),
        ({"max_rows": 31}, 2, Division(lanes=1, rows=31, threads=2, client_rows=8)),
        ({"max_rows": 4}, 8, Division(lanes=1, rows=4, threads=8, client_rows=4)),
    ],
)
def test_division(fields: dict[str, Any], cores: int, division: Division) -> None:
    assert divide(config(**fields), cores) == division


@pytest.mark.parametrize("fields", [{"threads": 3, "lanes": 4}, {"lanes": 4}])
def test_no_more_lanes_than_threads(fields: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match="lanes: got 4; allowed: 0 to 3"):
        divide(config(**fields), 3)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lanes": -1}, "lanes: got -1"),
        ({"lanes": 5, "max_rows": 4}, "lanes: got 5; allowed: 0 to 4"),
    ],
)
def test_settings_of_lanes_that_do_not_fit(fields: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        config(**fields)


def test_a_request_may_need_the_rows_of_a_lane(make_lane: MakeLane) -> None:
    engines: list[Lane] = [make_lane(max_rows=4) for _ in range(2)]
    lanes = Lanes(engines)
    assert submit(lanes, make_request(1, beam_size=4)).hypotheses()
    with pytest.raises(InvalidInput, match="beam_size: got 5; allowed: at most 4"):
        submit(lanes, make_request(2, beam_size=5))
