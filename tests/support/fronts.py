"""Fronts for tests of engines, by direct calls or over a link to another process. They keep all answers."""

from __future__ import annotations

import dataclasses
import multiprocessing
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from dragoman_service.engine.engine import Connection, Engine
from dragoman_service.engine.lane import Lane
from dragoman_service.engine.lanes import Lanes
from dragoman_service.engine.link import EngineLink
from dragoman_service.engine.messages import Answer, Cancel, Expect, Lost, Open, Refused, Submit, Window
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Event, Failed, Finished, Progress
from support.builders import make_request, make_scheduler
from support.fake_runner import FakeRunner
from support.link_client import LinkClient, serve, wait_for_end

PATIENCE = 30.0
"""Seconds after which a test fails; far more than a working engine needs."""

CULPRIT = 9
"""Token of a source that fails the step in which it joins."""

Connect = Callable[[Callable[[Sequence[Answer]], None]], Connection]


class Front:
    """Opens calls, submits requests and waits for their answers."""

    def __init__(self, connect: Connect) -> None:
        self.answers: list[Answer] = []
        self._condition = threading.Condition()
        self.connection = connect(self._receive)

    def _receive(self, answers: Sequence[Answer]) -> None:
        with self._condition:
            self.answers += answers
            self._condition.notify_all()

    def wait_for(self, found: Callable[[Answer], bool]) -> Any:
        """Wait for an answer for which `found` is true; returns the first, which may have arrived already."""

        def first() -> Answer | None:
            return next((answer for answer in list(self.answers) if found(answer)), None)

        with self._condition:
            assert self._condition.wait_for(lambda: first() is not None, PATIENCE), self.answers
        return first()

    def open(self, client: str = "", window: int = 4) -> int:
        """Open a call and wait for the first answer; returns its id."""
        call = self.connection.new_id()
        self.connection.send(Open(call, client, window))
        self.wait_for(lambda answer: isinstance(answer, Window | Refused | Lost) and _call_of(answer) in (call, None))
        return call

    def refusal(self, call: int) -> Exception | None:
        """The error with which a call was refused; None if it was not."""
        return next(
            (answer.error for answer in self.answers if isinstance(answer, Refused) and answer.call == call), None
        )

    def window(self, call: int) -> int:
        """The window of a call: the sum of the changes received."""
        return sum(answer.change for answer in self.answers if isinstance(answer, Window) and answer.call == call)

    def expect(self, call: int, requests: int, work: int = 0, deadline: float | None = None) -> None:
        self.connection.send(Expect(call, requests, work, deadline))

    def submit(self, call: int, number: int, **options: Any) -> int:
        """Submit a request whose source depends on `number`; returns its id."""
        fields = dict(options)
        request = make_request(self.connection.new_id(), **{"source": (4 + number % 5, 11, 2), **fields})
        self.connection.send(Submit(call, request))
        return request.id

    def cancel(self, call: int) -> None:
        self.connection.send(Cancel(call))

    def last(self, request_id: int) -> Event:
        """Wait for the final event of a request."""
        event: Event = self.wait_for(
            lambda answer: isinstance(answer, Finished | Failed) and answer.request_id == request_id
        )
        return event

    def error(self, request_id: int) -> Exception:
        event = self.last(request_id)
        assert isinstance(event, Failed), event
        return event.error

    def finished(self, request_id: int) -> Finished:
        event = self.last(request_id)
        assert isinstance(event, Finished), event
        return event

    def progress(self, request_id: int) -> list[int]:
        """The tokens of all `Progress` events of a request."""
        events = [answer for answer in self.answers if isinstance(answer, Progress) and answer.request_id == request_id]
        return [token for event in events for token in event.tokens]

    def ends(self) -> list[int]:
        """The ids of the final events, in order. Tests check that each occurs once."""
        return [answer.request_id for answer in list(self.answers) if isinstance(answer, Finished | Failed)]


def _call_of(answer: Window | Refused | Lost) -> int | None:
    return None if isinstance(answer, Lost) else answer.call


class TimedRunner(FakeRunner):
    """A fake runner that reports a millisecond for each step."""

    def run(self, plan: StepPlan) -> StepResult:
        return dataclasses.replace(super().run(plan), decode_seconds=0.001)


def make_engine(gate: Any, limits: dict[str, int]) -> Engine:
    """Make an engine with two lanes over fake runners, whose steps wait for the gate."""

    def before(plan: StepPlan) -> None:
        assert gate.wait(PATIENCE)
        if any(CULPRIT in join.source for join in plan.joins):
            raise MemoryError("a source with the failing token")

    rows = limits.get("max_rows", 8)
    lanes = Lanes([Lane(make_scheduler(max_rows=rows), TimedRunner(rows, before_run=before)) for _ in range(2)])
    lanes.start()
    return Engine(lanes, max_queue=limits.get("max_queue", 64), max_queue_tokens=limits.get("max_queue_tokens", 10**6))


def _serve(ends: list[socket.socket], gate: Any, limits: dict[str, int]) -> None:
    engine = make_engine(gate, limits)
    closed: list[EngineLink] = []
    links = [serve(engine, end, closed.append) for end in ends]
    wait_for_end(links, closed)
    engine.close()


class Line:
    """An engine and how to connect to it."""

    def __init__(self, connect: Connect, gate: Any, kill: Callable[[], None] | None = None) -> None:
        self.connect = connect
        self.gate = gate
        """While it is cleared, steps wait."""
        self.kill = kill
        """Kills the engine's process; None if the engine is in this process."""

    def front(self) -> Front:
        return Front(self.connect)


@contextmanager
def line(kind: str, **limits: int) -> Iterator[Line]:
    """Run an engine in this process (`call`), or in another one (`link`) with links for two fronts."""
    if kind == "call":
        gate = threading.Event()
        gate.set()
        engine = make_engine(gate, limits)
        try:
            yield Line(engine.connect, gate)
        finally:
            gate.set()
            engine.close()
        return
    context = multiprocessing.get_context("spawn")
    shared_gate = context.Event()
    shared_gate.set()
    pairs = [socket.socketpair() for _ in range(2)]
    process = context.Process(target=_serve, args=([far for _, far in pairs], shared_gate, limits))
    process.start()
    for _, far in pairs:
        far.close()
    free = [near for near, _ in pairs]
    try:
        yield Line(lambda on_answers: LinkClient(free.pop(), on_answers), shared_gate, process.kill)
    finally:
        process.kill()
        process.join()
