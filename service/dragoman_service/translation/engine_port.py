"""The front's side of a connection to an engine: the calls of one event loop, and their requests."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Protocol

from dragoman_service.engine.engine import Connection
from dragoman_service.engine.messages import Answer, Cancel, Expect, Lost, Message, Open, Refused, Submit, Window
from dragoman_service.engine.request import Event, Failed, Finished, Progress, Request
from dragoman_service.errors import DragomanError, EngineFailure
from dragoman_service.translation.memory import UNLIMITED, Memory

_BYTES_PER_TOKEN = 160
_BYTES_PER_HYPOTHESIS = 600

_log = logging.getLogger(__name__)


class Connectable(Protocol):
    """An engine that a port can connect to."""

    def connect(self, on_answers: Callable[[Sequence[Answer]], None]) -> Connection:
        """See `engine.Engine.connect`."""
        ...


class EnginePort:
    """The calls of one event loop to one engine.

    Answers are put into a queue. The event loop is woken once for all answers that arrive on other threads, because
    waking it costs more than handling most answers. Answers that arrive while a message is sent are handled after it:
    handling them may send further messages, and would nest without limit.
    """

    def __init__(self, engine: Connectable) -> None:
        """Connect to an engine. To be called on the event loop that uses the port."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._arrived: deque[Sequence[Answer]] = deque()
        self._awake = False  # whether the loop has been woken for the queued answers
        self._handling = False  # whether the queue will be handled further up the stack
        self.lost = False
        """Whether the engine is gone: every call fails, and a new port is needed to reach an engine again."""
        self._calls: dict[int, EngineCall] = {}
        self._requests: dict[int, EngineCall] = {}
        self._connection = engine.connect(self._receive)
        self.new_id = self._connection.new_id

    def close(self) -> None:
        """Close the connection and fail the calls that are open."""
        self._connection.close()
        self._fail_all(EngineFailure("the connection to the engine has been closed"))

    def send(self, message: Message) -> None:
        """Send a message, and handle the answers that have arrived."""
        if self._handling:
            self._connection.send(message)
            return
        self._handling = True
        try:
            self._connection.send(message)
        finally:
            self._handling = False
        if self._arrived:
            self._handle_arrived()

    def call(self, client: str, window: int, memory: Memory = UNLIMITED, *, requests: int | None = None) -> EngineCall:
        """Make a call of a client, which can use at most `window` requests at a time in the engine.

        `memory` is told of the memory of the answers. With the number of its requests, if that is known, the call does
        not wait for its admission: its messages go together, and the engine keeps those requests that are too many.
        """
        return EngineCall(self, client, window, memory, requests)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the engine from being closed within this context, for a call that will use it later."""
        call = self.new_id()
        self.send(Open(call, "", 0))
        try:
            yield
        finally:
            self.send(Cancel(call))

    def add(self, call: EngineCall) -> None:
        """Deliver answers to a call from now on."""
        self._calls[call.id] = call

    def remove(self, call: EngineCall, requests: Sequence[int]) -> None:
        """Drop all further answers for a call and its requests."""
        self._calls.pop(call.id, None)
        for request_id in requests:
            self._requests.pop(request_id, None)

    def submit(self, call: EngineCall, request: Request) -> None:
        """Send a request of a call."""
        self._requests[request.id] = call
        self.send(Submit(call.id, request))

    def _receive(self, answers: Sequence[Answer]) -> None:
        """Called on any thread."""
        self._arrived.append(answers)
        if threading.get_ident() == self._thread:
            self._handle_arrived()
        elif not self._awake:
            self._awake = True
            with suppress(RuntimeError):  # the loop is closed, so no call waits for these answers
                self._loop.call_soon_threadsafe(self._handle_arrived)

    def _handle_arrived(self) -> None:
        self._awake = False  # before the queue is emptied: later answers wake the loop again
        if self._handling:
            return
        self._handling = True
        try:
            while self._arrived:
                for answer in self._arrived.popleft():
                    try:
                        self._handle(answer)
                    except Exception:  # of one call, which must not cost others their answers
                        _log.exception("an answer of the engine could not be handled")
        finally:
            self._handling = False

    def _handle(self, answer: Answer) -> None:
        if isinstance(answer, Window | Refused):
            call = self._calls.get(answer.call)
            if call is None:
                return
            if isinstance(answer, Window):
                call.on_window(answer.change)
            else:
                call.fail(answer.error)
        elif isinstance(answer, Lost):
            self._fail_all(answer.error)
        elif isinstance(answer, Progress):
            call = self._requests.get(answer.request_id)
            if call is not None:
                call.on_event(answer)
        else:
            call = self._requests.pop(answer.request_id, None)
            if call is not None:
                call.on_event(answer)

    def _fail_all(self, error: Exception) -> None:
        self.lost = True
        for call in list(self._calls.values()):
            call.fail(error)


class EngineCall:
    """One call in an engine; an asynchronous context manager, entered once the engine has admitted the call.

    Leaving the context cancels the call if not all of its requests have ended.
    """

    def __init__(self, port: EnginePort, client: str, window: int, memory: Memory, requests: int | None) -> None:
        self.id = port.new_id()
        self._port = port
        self._client = client
        self._memory = memory
        self._wanted = window if requests is None else max(1, min(window, requests))
        self._early = requests is not None  # whether requests are submitted before the engine has said how many
        self._window = self._wanted if self._early else 0  # maximum number of requests in the engine
        self._running: set[int] = set()  # ids of the requests in the engine
        self._error: Exception | None = None  # why the call was refused or lost
        self._has_tokens = False  # whether any of its tokens have been translated
        self._remaining = 1  # requests that have not ended; at least 1 until `expect` sets the number
        self._may_want_more = False  # whether the engine must keep the call when these have ended
        self._work: dict[int, _Work] = {}  # id of a request in the engine -> its consumer
        self._consumers: list[_Work] = []
        self._admitted: asyncio.Future[None] | None = None

    async def __aenter__(self) -> EngineCall:
        """Wait for admission. Raises the error with which the engine refuses the call."""
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
        if (self._remaining or self._may_want_more) and self._error is None:
            self._port.send(Cancel(self.id))
        self._port.remove(self, list(self._running))

    def expect(self, requests: int, work: int, deadline: float | None, *, may_want_more: bool = False) -> None:
        """Announce the number of requests and their work (source tokens times rows).

        With `may_want_more`, the call stays open when they have ended, and `expect_more` may announce others.
        Raises the error with which the engine refuses the call, for example because of its deadline. An engine in
        another process answers later: `finish_all` or the stream then raises the error.
        """
        self._remaining, self._may_want_more = requests, may_want_more
        self._port.send(Expect(self.id, requests + may_want_more, work, deadline))
        if self._error is not None:
            raise self._error

    def expect_more(self, requests: int, work: int, deadline: float | None) -> None:
        """Announce requests beside those of `expect`. For the arguments and errors, see there."""
        self.expect(self._remaining + requests, work, deadline, may_want_more=True)

    async def finish_all(self, wanted: Iterator[Request]) -> list[Finished]:
        """Run all requests, as many at a time as the window allows; returns their final events in the same order.

        Requests are taken from the iterator when they are submitted. Raises the first failure.
        """
        work = _All(self, wanted)
        self._consumers.append(work)
        try:
            self._continue()
            return await work.done
        finally:
            self._consumers.remove(work)

    def stream(self, wanted: Iterator[Request]) -> RequestStream:
        """Run all requests, as many at a time as the window allows; returns their events, in order."""
        work = RequestStream(self, wanted)
        self._consumers.append(work)
        self._continue()
        return work

    @property
    def has_room(self) -> bool:
        """Whether a request may be submitted."""
        return len(self._running) < self._window and self._error is None

    @property
    def window(self) -> int:
        """Maximum number of requests in the engine."""
        return self._window

    def submit(self, request: Request, consumer: _Work) -> None:
        """Send a request, whose events the consumer gets. `has_room` must be true."""
        self._running.add(request.id)
        self._work[request.id] = consumer
        self._port.submit(self, request)

    def on_window(self, change: int) -> None:
        """Called when the engine admits the call or changes its window."""
        self._window = change if self._early else self._window + change
        self._early = False
        if self._admitted is not None and not self._admitted.done():
            self._admitted.set_result(None)
        self._continue()

    def on_event(self, event: Event) -> None:
        """Called with an event of a request of the call."""
        work = self._work.get(event.request_id)
        if not isinstance(event, Progress):
            self._running.discard(event.request_id)
            self._work.pop(event.request_id, None)
            self._remaining -= 1
        if isinstance(event, Failed):
            self._note_work(event.error)
        else:
            self._has_tokens = True
        if work is None:
            return
        if isinstance(event, Finished):
            try:
                self._memory.add(_bytes_of(event))
            except Exception as error:
                self._note_work(error)
                work.fail(error)
        work.on_event(event)
        self._continue()

    def fail(self, error: Exception) -> None:
        """Called when the engine refuses the call or the connection is lost."""
        self._note_work(error)
        self._error = error
        if self._admitted is not None and not self._admitted.done():
            self._admitted.set_result(None)
        self._continue()

    def _note_work(self, error: Exception) -> None:
        """Write on an error whether the call had been worked on."""
        if self._has_tokens and isinstance(error, DragomanError):
            error.after_work = True

    def _continue(self) -> None:
        # The newest first: a stream waits for the second attempt at a sentence before it reads the next one.
        for work in reversed(self._consumers):
            if self._error is not None:
                work.fail(self._error)
            work.go_on()


def _bytes_of(event: Finished) -> int:
    """Bytes of memory of the translations of a sentence, from their arrival to the end of the reply."""
    return sum(_BYTES_PER_HYPOTHESIS + _BYTES_PER_TOKEN * len(hypothesis.tokens) for hypothesis in event.hypotheses)


class _Work(Protocol):
    """Consumer of the requests and events of a call."""

    def go_on(self) -> None:
        """Submit requests while there is room."""
        ...

    def on_event(self, event: Event) -> None:
        """Called with an event of a request."""
        ...

    def fail(self, error: Exception) -> None:
        """Called when the call has failed."""
        ...


class _All:
    """Requests of which only the final events are needed. `done` has these, in order, or the first failure."""

    def __init__(self, call: EngineCall, wanted: Iterator[Request]) -> None:
        self._call = call
        self._wanted = wanted
        self._exhausted = False
        self._unanswered = 0  # others of the call, such as those of a stream, may go on
        self._answers: dict[int, Finished | None] = {}  # request id -> final event, in the order of submission
        self.done: asyncio.Future[list[Finished]] = asyncio.get_running_loop().create_future()

    def go_on(self) -> None:
        try:
            while not self.done.done() and self._call.has_room:
                request = next(self._wanted, None)
                if request is None:
                    self._exhausted = True
                    break
                self._answers[request.id] = None
                self._unanswered += 1
                self._call.submit(request, self)
        except Exception as error:
            self.fail(error)
        if self._exhausted and not self._unanswered and not self.done.done():
            self.done.set_result([answer for answer in self._answers.values() if answer])

    def on_event(self, event: Event) -> None:
        if isinstance(event, Failed):
            self.fail(event.error)
        elif isinstance(event, Finished):
            self._answers[event.request_id] = event
            self._unanswered -= 1

    def fail(self, error: Exception) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class RequestStream:
    """The events of requests, one request after another.

    A request counts against the window until its final event has been read, so a slow reader slows down the submission
    of further requests.
    """

    def __init__(self, call: EngineCall, wanted: Iterator[Request]) -> None:
        self._call = call
        self._wanted = wanted
        self._unread: deque[tuple[int, asyncio.Queue[Event]]] = deque()  # in the order of submission
        self._queues: dict[int, asyncio.Queue[Event]] = {}
        self._error: Exception | None = None
        self._one_failed = False  # then no more are submitted

    async def next_request(self) -> AsyncIterator[Progress | Finished]:
        """Yield the events of the next request; the last is `Finished`. Raises the error of the request or the call."""
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
        try:
            while self._call.has_room and len(self._unread) < self._call.window and not self._one_failed:
                request = next(self._wanted, None)
                if request is None:
                    break
                events: asyncio.Queue[Event] = asyncio.Queue()
                self._queues[request.id] = events
                self._unread.append((request.id, events))
                self._call.submit(request, self)
        except Exception as error:
            self.fail(error)

    def on_event(self, event: Event) -> None:
        self._one_failed |= isinstance(event, Failed)
        self._queues[event.request_id].put_nowait(event)

    def fail(self, error: Exception) -> None:
        self._error = error
        self._one_failed = True
        for request_id, events in self._unread:  # wakes `next_request`
            events.put_nowait(Failed(request_id, error))
