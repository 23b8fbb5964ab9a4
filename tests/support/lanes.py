"""Lanes over the fake runner, listeners for their events, and a gate that holds back steps."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from dragoman_service.engine.lane import Lane
from dragoman_service.engine.plan import StepPlan
from dragoman_service.engine.request import Event, Failed, Finished, Hypothesis, Progress, Request
from support.builders import make_scheduler
from support.fake_runner import FakeRunner

PATIENCE = 30.0
"""Seconds after which a test fails; far more than a working lane needs."""

MakeLane = Callable[..., Lane]


class Listener:
    """Collects the events of one request."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.threads: set[str] = set()

    def __call__(self, events: Sequence[Event]) -> None:
        self.threads.add(threading.current_thread().name)
        for event in events:
            self._events.put(event)

    def until_last(self) -> list[Event]:
        events = [self._events.get(timeout=PATIENCE)]
        while isinstance(events[-1], Progress):
            events.append(self._events.get(timeout=PATIENCE))
        return events

    def is_done(self) -> bool:
        """Whether no further event has arrived."""
        return self._events.empty()

    def error(self) -> Exception:
        last = self.until_last()[-1]
        assert isinstance(last, Failed)
        return last.error

    def hypotheses(self) -> tuple[Hypothesis, ...]:
        last = self.until_last()[-1]
        assert isinstance(last, Finished), last
        return last.hypotheses


class Gate:
    """Holds back every step until it is let through."""

    def __init__(self) -> None:
        self._arrived = threading.Semaphore(0)
        self._let_through = threading.Semaphore(0)
        self.open = False

    def __call__(self, plan: StepPlan) -> None:
        self._arrived.release()
        if not self.open:
            assert self._let_through.acquire(timeout=PATIENCE)

    def await_step(self) -> None:
        assert self._arrived.acquire(timeout=PATIENCE)

    def let_one_through(self) -> None:
        self._let_through.release()

    def let_all_through(self) -> None:
        self.open = True
        self._let_through.release(1000)


def submit(engine: Lane, request: Request) -> Listener:
    listener = Listener()
    engine.submit(request, listener)
    return listener


@contextmanager
def lane_maker() -> Iterator[MakeLane]:
    """Yield a function that makes lanes. The lanes are closed at the end."""
    engines: list[Lane] = []

    def make(
        *,
        before_run: Callable[[StepPlan], None] = lambda plan: None,
        runner: FakeRunner | None = None,
        clock: Callable[[], float] = time.monotonic,
        start: bool = True,
        **limits: int,
    ) -> Lane:
        scheduler = make_scheduler(**limits)
        runner = runner or FakeRunner(scheduler.max_rows, before_run=before_run)
        engine = Lane(scheduler, runner, clock=clock)
        engines.append(engine)
        if start:
            engine.start()
        return engine

    try:
        yield make
    finally:
        for engine in engines:
            engine.close()
