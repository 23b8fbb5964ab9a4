"""A client holds few rows while other clients are served, and all of them while it is alone."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from dragoman_service.engine.client_limit import _MEMORY
from dragoman_service.engine.request import Event, Finished, Request
from dragoman_service.engine.scheduler import Scheduler
from support.builders import make_request, make_scheduler, run_alone
from support.fake_runner import FakeRunner

ROWS, MOST = 16, 4


def request(number: int, client: str, rows: int = 1, length: int = 20) -> Request:
    return dataclasses.replace(
        make_request(number, beam_size=rows, max_length=length, min_length=length), client=client
    )


class Running:
    """A scheduler with a limit, and the events of its steps."""

    def __init__(self, *requests: Request, most: int = MOST) -> None:
        self.scheduler: Scheduler = make_scheduler(max_rows=ROWS, max_client_rows=most)
        self.runner = FakeRunner(ROWS)
        self.events: list[Event] = []
        self.add(*requests)

    def add(self, *requests: Request) -> None:
        for each in requests:
            self.scheduler.add(each, 0.0)

    def step(self) -> Counter[str]:
        """The rows of each client in the step."""
        plan = self.scheduler.plan()
        assert plan is not None
        rows = Counter(self.scheduler._batch.rows_of)
        self.events += self.scheduler.commit(plan, self.runner.run(plan), 0.0)
        return rows


def test_a_client_alone_has_all_rows() -> None:
    running = Running(*(request(number, "a") for number in range(40)))
    assert running.step() == {"a": ROWS}


def test_beside_another_client_each_has_the_limit() -> None:
    running = Running(request(100, "b", length=60), *(request(number, "a") for number in range(40)))
    for _ in range(30):
        assert running.step() == {"a": MOST, "b": 1}


def test_requests_behind_those_of_a_client_at_its_limit_join() -> None:
    """However many of these stand before them in the queue."""
    running = Running(request(100, "b", length=60), *(request(number, "a") for number in range(40)))
    running.step()
    running.add(*(request(101 + number, "b") for number in range(3)), request(110, "c", rows=8))
    assert running.step() == {"a": MOST, "b": 4, "c": 8}


def test_a_request_that_needs_rows_of_others_does_not_stop_those_behind_a_client_at_its_limit() -> None:
    running = Running(
        request(100, "b", rows=12, length=60), *(request(number, "a", length=60) for number in range(40)), most=4
    )
    running.step()
    running.scheduler.abort(0, RuntimeError())
    running.add(request(101, "c", rows=3), request(102, "d"))
    assert running.step()["d"] == 1


def test_one_request_may_exceed_the_limit() -> None:
    running = Running(request(1, "b"), request(2, "a", rows=8), request(3, "a", rows=8))
    assert running.step() == {"a": 8, "b": 1}


def test_the_limit_outlasts_the_gaps_between_the_requests_of_others() -> None:
    running = Running(request(100, "b", length=2), *(request(number, "a", length=500) for number in range(40)))
    running.step()
    held = [running.step()["a"] for _ in range(_MEMORY + 10)]
    assert held[: _MEMORY - 1] == [MOST] * (_MEMORY - 1)
    assert held[-1] == ROWS


@pytest.mark.parametrize("most", [1, 4, ROWS])
def test_everything_ends_with_what_it_would_give_alone(most: int) -> None:
    requests = [request(number, "abc"[number % 3], rows=1 + number % 5, length=5) for number in range(60)]
    running = Running(*requests, most=most)
    while running.scheduler.has_work:
        running.step()
    ended = {event.request_id: event.hypotheses for event in running.events if isinstance(event, Finished)}
    assert ended == {each.id: run_alone(each).hypotheses for each in requests}


def test_a_wide_request_joins_beside_narrow_ones_of_its_own_client_and_of_others() -> None:
    running = Running(request(0, "b", length=10_000), request(1, "a", rows=ROWS - 1))
    number = 1
    for _ in range(2_000):
        while running.scheduler.num_waiting < 4:
            number += 1
            running.add(request(number, "ab"[number % 2], length=3))
        running.step()
        if running.scheduler._batch.active.keys() & {1}:
            break
    assert 1 in running.scheduler._batch.active
    assert not running.scheduler._overtaken


def test_one_that_leaves_is_forgotten() -> None:
    running = Running(request(0, "b", length=10_000), request(1, "a", rows=ROWS), request(2, "b"))
    running.step()
    assert running.scheduler._overtaken
    running.scheduler.abort(1, RuntimeError())
    assert not running.scheduler._overtaken
