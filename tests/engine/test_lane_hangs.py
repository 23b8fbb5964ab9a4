"""A lane while a step hangs. A gate holds back the step, and the test sets the clock."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from dragoman_service.engine import lane as lane_module
from dragoman_service.engine.lane import Lane
from dragoman_service.engine.plan import StepPlan
from dragoman_service.errors import EngineFailure
from support.builders import make_request, make_scheduler, run_alone
from support.fake_runner import FakeRunner
from support.lanes import PATIENCE, Gate, submit

Hanging = Callable[[float], tuple[Lane, Gate, list[float]]]
EMPTY_PLAN = StepPlan((), (), (), (), (), 1)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    """Make a lane with a step timeout whose steps wait at a gate and whose clock is set by the test."""
    gates: list[Gate] = []
    engines: list[Lane] = []

    def make(step_timeout: float) -> tuple[Lane, Gate, list[float]]:
        gate, now = Gate(), [100.0]
        runner = FakeRunner(8, before_run=gate)
        engine = Lane(make_scheduler(), runner, clock=lambda: now[0], step_timeout=step_timeout)
        engine.start()
        gates.append(gate)
        engines.append(engine)
        return engine, gate, now

    yield make
    for gate, engine in zip(gates, engines, strict=True):
        gate.let_all_through()
        engine.close()
        engine._thread.join(PATIENCE)


def test_an_engine_is_not_healthy_while_a_step_hangs_and_is_again_once_it_ends(hanging: Hanging) -> None:
    engine, gate, now = hanging(5.0)
    now[0] += 1000.0
    assert engine.healthy  # nobody waits for anything
    listener = submit(engine, make_request(1, min_length=3))
    gate.await_step()
    now[0] += 5.0
    assert engine.healthy
    now[0] += 0.1
    assert not engine.healthy
    gate.let_one_through()
    gate.await_step()  # the next step begins now
    assert engine.healthy
    gate.let_all_through()
    listener.hypotheses()
    now[0] += 1000.0
    await_health(engine)


def await_health(engine: Lane) -> None:
    """Wait until the lane's thread is idle, which it is right after the final event."""
    patience = time.monotonic() + PATIENCE
    while not engine.healthy:
        assert time.monotonic() < patience
        time.sleep(0.001)


def out_of_memory(plan: StepPlan) -> None:
    raise MemoryError


def test_a_probe_that_hangs_is_a_step_that_hangs(monkeypatch: pytest.MonkeyPatch, hanging: Hanging) -> None:
    engine, _, now = hanging(5.0)
    probe = Gate()
    monkeypatch.setattr(engine._runner, "probe", lambda: probe(EMPTY_PLAN))
    monkeypatch.setattr(engine._runner, "_before_run", out_of_memory)
    submit(engine, make_request(1)).error()
    probe.await_step()
    now[0] += 6.0
    assert not engine.healthy
    probe.let_all_through()
    await_health(engine)


def test_a_hung_engine_still_takes_requests_and_does_them_later(hanging: Hanging) -> None:
    engine, gate, now = hanging(5.0)
    submit(engine, make_request(1))
    gate.await_step()
    now[0] += 6.0
    listener = submit(engine, make_request(2))
    gate.let_all_through()
    assert listener.hypotheses() == run_alone(make_request(2)).hypotheses


def test_to_close_a_hung_engine_fails_what_is_pending_and_returns(
    hanging: Hanging, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(lane_module, "CLOSE_SECONDS", 0.05)
    engine, gate, _ = hanging(5.0)
    listeners = [submit(engine, make_request(request_id)) for request_id in range(3)]
    gate.await_step()
    closer = threading.Thread(target=engine.close)
    closer.start()
    closer.join(PATIENCE)
    assert not closer.is_alive()
    for listener in listeners:
        error = listener.error()
        assert isinstance(error, EngineFailure)
        assert "hangs" in str(error)
    assert "a step hangs" in caplog.text
    assert engine.drain(0)
    assert engine.rows == 0
    # The step ends after all: nobody is there any more to hear of it, and it is no trouble.
    caplog.clear()
    gate.let_all_through()
    engine._thread.join(PATIENCE)
    assert engine._runner.closed  # type: ignore[attr-defined]
    assert not caplog.records
    assert all(listener.is_done() for listener in listeners)
