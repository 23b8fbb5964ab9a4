"""A lane with the fake runner: commands, events, start and close."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import queue
import threading
import time
from collections.abc import Iterator, Sequence

import pytest

from dragoman_service.engine.request import Event, Finished
from dragoman_service.errors import Cancelled, DeadlineExceeded, InvalidInput, ShuttingDown
from support.builders import make_request, run_alone, streamed
from support.fake_runner import FakeRunner
from support.lanes import PATIENCE, Gate, Listener, MakeLane, lane_maker, submit


@pytest.fixture
def make_lane() -> Iterator[MakeLane]:
    with lane_maker() as make:
        yield make


# --- the normal course


def test_a_request_is_answered_on_the_engine_thread(make_lane: MakeLane) -> None:
    listener = submit(make_lane(), make_request(1, beam_size=3))
    assert listener.hypotheses() == run_alone(make_request(1, beam_size=3)).hypotheses
    assert listener.threads == {"dragoman-lane"}


def test_progress_comes_before_the_end(make_lane: MakeLane) -> None:
    *progress, finished = submit(make_lane(), make_request(1, stream=True)).until_last()
    assert isinstance(finished, Finished)
    assert len(progress) == len(finished.hypotheses[0].tokens)
    assert streamed(progress, 1) == finished.hypotheses[0].tokens


def test_requests_from_many_threads_get_what_they_would_get_alone(make_lane: MakeLane) -> None:
    engine = make_lane(max_rows=6)
    requests = [make_request(number, beam_size=1 + number % 4) for number in range(120)]
    listeners: dict[int, Listener] = {}

    def client(offset: int) -> None:
        for request in requests[offset::6]:
            listeners[request.id] = submit(engine, request)

    clients = [threading.Thread(target=client, args=(offset,)) for offset in range(6)]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    for request in requests:
        assert listeners[request.id].hypotheses() == run_alone(request).hypotheses
    stats = engine.stats()
    assert (stats.waiting, stats.running, stats.rows_used) == (0, 0, 0)
    assert stats.totals.source_tokens == sum(len(request.source) for request in requests)


def test_what_is_submitted_before_the_start_waits(make_lane: MakeLane) -> None:
    engine = make_lane(start=False)
    listener = submit(engine, make_request(1))
    assert engine.stats().waiting == 1
    engine.start()
    listener.hypotheses()


def test_an_idle_engine_sleeps(make_lane: MakeLane) -> None:
    calls = []

    def clock() -> float:
        calls.append(threading.current_thread().name)
        return 0.0

    engine = make_lane(clock=clock)
    submit(engine, make_request(1)).hypotheses()
    assert engine.drain(PATIENCE)
    patience = time.monotonic() + PATIENCE
    before = -1
    while before != len(calls):  # until the thread has come to rest
        assert time.monotonic() < patience, "the engine never sleeps"
        before = len(calls)
        time.sleep(0.2)


def test_stats_count_steps_and_tokens(make_lane: MakeLane) -> None:
    gate = Gate()
    engine = make_lane(before_run=gate, max_rows=3)
    submit(engine, make_request(1, beam_size=3, source=(4, 5, 2), min_length=3))
    gate.await_step()
    submit(engine, make_request(2))
    gate.let_one_through()
    gate.await_step()
    cached = 3 * (1 + 3)
    stats = engine.stats()
    assert (stats.waiting, stats.running, stats.rows_used, stats.max_rows) == (1, 1, 3, 3)
    assert stats.cached_positions == cached
    assert stats.totals.steps == 1
    assert stats.totals.step_rows.sum == 3
    gate.let_all_through()


# --- refusing


def test_the_queue_goes_on_counting_what_came_while_a_step_ran(make_lane: MakeLane) -> None:
    gate = Gate()
    engine = make_lane(before_run=gate, max_rows=1)
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    engine.submit(make_request(1, stream=True, min_length=3), lambda events: waiting.put(engine.stats().waiting))
    gate.await_step()
    submit(engine, make_request(2))
    submit(engine, make_request(3))
    gate.let_all_through()
    assert waiting.get(timeout=PATIENCE) == 2  # at the end of the first step, before the engine has taken the two


def test_what_can_never_run_is_refused_at_once(make_lane: MakeLane) -> None:
    with pytest.raises(InvalidInput, match="beam_size: got 4"):
        submit(make_lane(max_rows=2), make_request(1, beam_size=4))


def test_an_id_is_used_once(make_lane: MakeLane) -> None:
    engine = make_lane(start=False)
    submit(engine, make_request(1))
    with pytest.raises(ValueError, match="id 1 is in use"):
        submit(engine, make_request(1))


# --- ending early


def test_a_cancelled_request_frees_its_rows_before_the_next_step(make_lane: MakeLane) -> None:
    gate = Gate()
    runner = FakeRunner(8, before_run=gate)
    engine = make_lane(runner=runner)
    cancelled = submit(engine, make_request(1, beam_size=3, min_length=9))
    gate.await_step()
    other = submit(engine, make_request(2))
    engine.cancel(1)
    gate.let_all_through()
    assert isinstance(cancelled.error(), Cancelled)
    assert other.hypotheses() == run_alone(make_request(2)).hypotheses
    assert len(runner.plans[0].tokens) == 3
    assert {len(plan.tokens) for plan in runner.plans[1:]} == {1}


def test_positions_in_the_caches_are_counted_until_the_last_request_is_cancelled(make_lane: MakeLane) -> None:
    gate = Gate()
    engine = make_lane(before_run=gate)
    listener = submit(engine, make_request(1, source=(5, 6, 2), beam_size=2, min_length=9))
    gate.await_step()
    gate.let_one_through()
    gate.await_step()
    assert engine.stats().cached_positions == 2 * (1 + 3)
    engine.cancel(1)
    gate.let_all_through()
    assert isinstance(listener.error(), Cancelled)
    assert engine.stats().cached_positions == 0


def test_a_waiting_request_can_be_cancelled(make_lane: MakeLane) -> None:
    engine = make_lane(start=False)
    listener = submit(engine, make_request(1))
    engine.cancel(1)
    engine.start()
    assert isinstance(listener.error(), Cancelled)
    assert engine.stats().waiting == 0


def test_a_cancel_too_late_or_twice_is_nothing(make_lane: MakeLane) -> None:
    engine = make_lane()
    listener = submit(engine, make_request(1))
    listener.hypotheses()
    engine.cancel(1)
    engine.cancel(99)
    submit(engine, make_request(2)).hypotheses()


def test_a_deadline_ends_a_running_request(make_lane: MakeLane) -> None:
    gate = Gate()
    now = [0.0]
    engine = make_lane(before_run=gate, clock=lambda: now[0])
    listener = submit(engine, dataclasses.replace(make_request(1, min_length=9), deadline=5.0))
    gate.await_step()
    now[0] = 5.0
    gate.let_all_through()
    assert isinstance(listener.error(), DeadlineExceeded)
    assert engine.stats().totals.steps == 1


# --- the end


def test_drain_lets_what_was_accepted_end_and_takes_no_more(make_lane: MakeLane) -> None:
    gate = Gate()
    engine = make_lane(before_run=gate, max_rows=1)
    running, waiting = submit(engine, make_request(1)), submit(engine, make_request(2))
    gate.await_step()
    assert not engine.drain(0.01)
    with pytest.raises(ShuttingDown):
        submit(engine, make_request(3))
    gate.let_all_through()
    assert engine.drain(PATIENCE)
    running.hypotheses()
    waiting.hypotheses()


def test_close_fails_what_is_left_and_frees_the_runner(make_lane: MakeLane) -> None:
    gate = Gate()
    runner = FakeRunner(1, before_run=gate)
    engine = make_lane(runner=runner, max_rows=1)
    listeners = [submit(engine, make_request(request_id, min_length=9)) for request_id in range(2)]
    gate.await_step()
    closer = threading.Thread(target=engine.close)
    closer.start()
    for request_id in itertools.count(10):
        try:
            listeners.append(submit(engine, make_request(request_id)))
        except ShuttingDown:
            break  # the other thread has come to close
        time.sleep(0.001)
    gate.let_all_through()
    closer.join(PATIENCE)
    assert {type(listener.error()) for listener in listeners} == {ShuttingDown}
    assert runner.closed
    assert engine.stats().rows_used == 0
    with pytest.raises(ShuttingDown):
        submit(engine, make_request(3))
    engine.close()


def test_an_engine_that_was_never_started_can_be_closed(make_lane: MakeLane) -> None:
    engine = make_lane(start=False)
    listener = submit(engine, make_request(1))
    engine.close()
    assert isinstance(listener.error(), ShuttingDown)


def test_the_engine_is_quiet_when_all_is_well(make_lane: MakeLane, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    submit(make_lane(), make_request(1)).hypotheses()
    assert caplog.text == ""


# --- what is told together


def test_what_a_step_decides_for_one_receiver_comes_in_one_call(make_lane: MakeLane) -> None:
    calls: queue.SimpleQueue[list[int]] = queue.SimpleQueue()

    def receive(events: Sequence[Event]) -> None:
        calls.put([event.request_id for event in events])

    engine = make_lane(start=False)
    for request_id in (1, 2):
        engine.submit(make_request(request_id, stream=True, min_length=3, max_length=3), receive)
    other = submit(engine, make_request(3))
    engine.start()
    other.hypotheses()
    assert engine.drain(PATIENCE)
    received = [calls.get_nowait() for _ in range(calls.qsize())]
    assert received == [[1, 2], [1, 2], [1, 2], [1, 2]]


def test_the_load_is_the_rows_of_all_that_has_not_ended(make_lane: MakeLane) -> None:
    gate = Gate()
    engine = make_lane(before_run=gate, max_rows=4)
    first = submit(engine, make_request(1, beam_size=3))
    gate.await_step()
    submit(engine, make_request(2, beam_size=2))
    assert engine.rows == 5
    engine.cancel(1)
    gate.let_all_through()
    first.error()
    assert engine.drain(PATIENCE)
    assert engine.rows == 0
