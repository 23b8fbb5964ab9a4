"""A front's side of the line to an engine: the calls of one event loop, and their requests."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Protocol

from dragoman_service.engine.engine import Connection
from dragoman_service.engine.messages import Answer, Cancel, Expect, Lost, Open, Refused, Submit, Window
from dragoman_service.engine.request import Event, Failed, Finished, Progress, Request


class Connectable(Protocol):
    """What a port connects to."""

    def connect(self, on_answers: Callable[[Sequence[Answer]], None]) -> Connection:
        """See `engine.Engine.connect`."""
        ...


class EnginePort:
    """The calls of one event loop to one engine.

    Answers that come on other threads wait in a queue, and wake the loop once however many they are: waking it costs
    more than handling most of them.
    """

    def __init__(self, engine: Connectable) -> None:
        """To be made on the event loop that it is used on."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._arrived: deque[Sequence[Answer]] = deque()
        self._awake = False
        self._calls: dict[int, EngineCall] = {}
        self._requests: dict[int, EngineCall] = {}
        self._connection = engine.connect(self._receive)
        self.new_id = self._connection.new_id
        self.send = self._connection.send

    def call(self, client: str, window: int) -> EngineCall:
        """A call of a client, which can make use of so many requests at a time in the engine."""
        return EngineCall(self, client, window)

    def add(self, call: EngineCall) -> None:
        """Have a call get its answers."""
        self._calls[call.id] = call

    def remove(self, call: EngineCall, requests: Sequence[int]) -> None:
        """Drop what still comes for a call and its requests."""
        self._calls.pop(call.id, None)
        for request_id in requests:
            self._requests.pop(request_id, None)

    def submit(self, call: EngineCall, request: Request) -> None:
        """Send a request of a call."""
        self._requests[request.id] = call
        self.send(Submit(call.id, request))

    def _receive(self, answers: Sequence[Answer]) -> None:
        """Called on any thread."""
        if threading.get_ident() == self._thread:
            self._handle(answers)
            return
        self._arrived.append(answers)
        if not self._awake:
            self._awake = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
                self._loop.call_soon_threadsafe(self._handle_arrived)

    def _handle_arrived(self) -> None:
        self._awake = False  # before the queue is emptied: what comes from now on wakes the loop again
        while self._arrived:
            self._handle(self._arrived.popleft())

    def _handle(self, answers: Sequence[Answer]) -> None:
        for answer in answers:
            if isinstance(answer, Window | Refused):
                call = self._calls.get(answer.call)
                if call is None:
                    continue
                if isinstance(answer, Window):
                    call.on_window(answer.change)
                else:
                    call.fail(answer.error)
            elif isinstance(answer, Lost):
                for call in list(self._calls.values()):
                    call.fail(answer.error)
            elif isinstance(answer, Progress):
                call = self._requests.get(answer.request_id)
                if call is not None:
                    call.on_event(answer)
            else:
                call = self._requests.pop(answer.request_id, None)
                if call is not None:
                    call.on_event(answer)


class EngineCall:
    """One call in an engine; an asynchronous context manager, which is entered when the engine has admitted it.

    What has not ended when the context is left is cancelled.
    """

    def __init__(self, port: EnginePort, client: str, window: int) -> None:
        self.id = port.new_id()
        self._port = port
        self._client = client
        self._wanted = window
        self._window = 0  # requests that may be in the engine at once
        self._running: set[int] = set()  # requests that are
        self._error: Exception | None = None  # why the engine refuses the call
        self._remaining = 1  # requests that have not ended; of how many is known later
        self._work: _Work | None = None
        self._admitted: asyncio.Future[None] | None = None

    async def __aenter__(self) -> EngineCall:
        """Wait for admission; raises what the engine refuses the call with."""
        self._port.add(self)
        self._port.send(Open(self.id, self._client, self._wanted))
        try:
            if not self._window and self._error is None:
                self._admitted = asyncio.get_running_loop().create_future()
                await self._admitted
            if self._error is not None:
                raise self._error
        except BaseException:
            self._leave()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        if self._remaining and self._error is None:
            self._port.send(Cancel(self.id))
        self._port.remove(self, list(self._running))

    def expect(self, requests: int, work: int, deadline: float | None) -> None:
        """Say how many requests there will be, with how many source tokens times rows.

        The engine may refuse the call for its deadline, which the next step of the work raises.
        """
        self._remaining = requests
        self._port.send(Expect(self.id, requests, work, deadline))

    async def finish_all(self, wanted: Iterator[Request]) -> list[Finished]:
        """Run all requests, as many at a time as the window allows; returns their ends in the same order.

        Requests are made one by one, when their turn comes. The first failure is raised.
        """
        self._work = work = _All(self, wanted)
        self._go_on()
        return await work.done

    def stream(self, wanted: Iterator[Request]) -> RequestStream:
        """Run all requests, as many at a time as the window allows, and give their events in order."""
        self._work = work = RequestStream(self, wanted)
        self._go_on()
        return work

    @property
    def has_room(self) -> bool:
        """Whether a request may be submitted."""
        return len(self._running) < self._window and self._error is None

    @property
    def is_idle(self) -> bool:
        """Whether no request is in the engine."""
        return not self._running

    @property
    def window(self) -> int:
        """Requests that may be in the engine at once."""
        return self._window

    def submit(self, request: Request) -> None:
        """Send a request; there must be room."""
        self._running.add(request.id)
        self._port.submit(self, request)

    def on_window(self, change: int) -> None:
        """The engine has admitted the call, or changes how many requests it may have."""
        self._window += change
        if self._admitted is not None and not self._admitted.done():
            self._admitted.set_result(None)
        self._go_on()

    def on_event(self, event: Event) -> None:
        """An event of one of its requests."""
        if not isinstance(event, Progress):
            self._running.discard(event.request_id)
            self._remaining -= 1
        if self._work is not None:
            self._work.on_event(event)
            self._go_on()

    def fail(self, error: Exception) -> None:
        """The engine refuses the call, or is gone."""
        self._error = error
        if self._admitted is not None and not self._admitted.done():
            self._admitted.set_result(None)
        self._go_on()

    def _go_on(self) -> None:
        if self._work is not None:
            if self._error is not None:
                self._work.fail(self._error)
            self._work.go_on()


class _Work(Protocol):
    """What a call runs its requests for."""

    def go_on(self) -> None:
        """Submit what there is room for."""
        ...

    def on_event(self, event: Event) -> None:
        """Take an event of one of the requests."""
        ...

    def fail(self, error: Exception) -> None:
        """End, because the call has failed."""
        ...


class _All:
    """Requests of which only the ends are of interest; `done` has these in order, or the first failure."""

    def __init__(self, call: EngineCall, wanted: Iterator[Request]) -> None:
        self._call = call
        self._wanted = wanted
        self._exhausted = False
        self._answers: dict[int, Finished | None] = {}  # by request id, in the order of submission
        self.done: asyncio.Future[list[Finished]] = asyncio.get_running_loop().create_future()

    def go_on(self) -> None:
        try:
            while not self.done.done() and self._call.has_room:
                request = next(self._wanted, None)
                if request is None:
                    self._exhausted = True
                    break
                self._answers[request.id] = None
                self._call.submit(request)
        except Exception as error:
            self.fail(error)
        if self._exhausted and self._call.is_idle and not self.done.done():
            self.done.set_result([answer for answer in self._answers.values() if answer])

    def on_event(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.fail(event.error)
        elif isinstance(event, Finished):
            self._answers[event.request_id] = event

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class RequestStream:
    """The events of requests, one request after the other.

    No more requests are made than the window has room for, counted until their last event has been read: a slow reader
    slows the work down.
    """

    def __init__(self, call: EngineCall, wanted: Iterator[Request]) -> None:
        self._call = call
        self._wanted = wanted
        self._unread: deque[tuple[int, asyncio.Queue[Event]]] = deque()  # by request, in order
        self._queues: dict[int, asyncio.Queue[Event]] = {}
        self._error: Exception | None = None

    async def next_request(self) -> AsyncIterator[Progress | Finished]:
        """The events of the next request, of which the last is Finished. Raises the error of one that failed."""
        self.go_on()
        event: Event | None = None
        while not isinstance(event, Finished):
            if self._error is not None:
                raise self._error
            request_id, events = self._unread[0]
            event = await events.get()
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                self._unread.popleft()
                del self._queues[request_id]
                self.go_on()
            yield event

    def go_on(self) -> None:
        while self._call.has_room and len(self._unread) < self._call.window:
            request = next(self._wanted, None)
            if request is None:
                break
            events: asyncio.Queue[Event] = asyncio.Queue()
            self._queues[request.id] = events
            self._unread.append((request.id, events))
            self._call.submit(request)

    def on_event(self, event: Event) -> None:
        self._queues[event.request_id].put_nowait(event)

    def fail(self, error: Exception) -> None:
        self._error = error
        for request_id, events in self._unread:  # wakes whoever waits
            events.put_nowait(Failed(request_id, error))
