"""The engine of one model: admits calls, submits their requests to the workers, and returns answers.

A front is a client of an engine, for example an `EnginePort`. It sends messages and receives answers over a connection.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from dragoman_service.engine.lane import OnEvents
from dragoman_service.engine.messages import Answer, Cancel, Expect, Message, Open, Refused, Submit, Window
from dragoman_service.engine.permits import Grant, Permits
from dragoman_service.engine.request import Event, Failed, Progress, Request
from dragoman_service.engine.stats import EngineStats
from dragoman_service.errors import Cancelled, DragomanError, EngineFailure, Overloaded, ShuttingDown

MAX_CONNECTIONS = 65_536
"""Maximum number of connections over the life of an engine. Ids of calls and requests are unique over all of them."""

OnAnswers = Callable[[Sequence[Answer]], None]

_log = logging.getLogger(__name__)


class Workers(Protocol):
    """Decodes requests; implemented by `lanes.Lanes`."""

    @property
    def healthy(self) -> bool:
        """False once part of it has died, or while a step hangs."""
        ...

    @property
    def backlog_seconds(self) -> float:
        """Expected seconds until accepted requests have ended; 0 while there are too few measurements."""
        ...

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable if `work` (source tokens times rows) cannot be done within `seconds`."""
        ...

    def submit(self, request: Request, on_events: OnEvents) -> None:
        """Accept a request. `on_events` is called on other threads. Raises one of `dragoman_service.errors`."""
        ...

    def cancel(self, request_id: int) -> None:
        """End a request with `Failed(Cancelled)`, unless it has ended."""
        ...

    def stats(self) -> EngineStats:
        """Current counts."""
        ...

    def close(self) -> None:
        """Fail the remaining requests and stop."""
        ...


class Connection(Protocol):
    """A front's connection to an engine: made by `Engine.connect` in one process, by `pipe.connect` between two."""

    def new_id(self) -> int:
        """A new id for a call or a request."""
        ...

    def send(self, message: Message) -> None:
        """Send a message. Never raises. The callback gets the answers, on any thread, possibly before this returns."""
        ...

    @property
    def healthy(self) -> bool:
        """The newest known health of the engine."""
        ...

    def stats(self) -> EngineStats:
        """The newest known counts of the engine."""
        ...

    def close(self) -> None:
        """Cancel the calls of this connection. No answer comes any more, and what is sent is dropped."""
        ...


class _Call:
    """An open call."""

    __slots__ = ("connection", "grant", "held", "id", "requests")

    def __init__(self, call_id: int, connection: _LocalConnection, grant: Grant) -> None:
        self.id = call_id
        self.connection = connection
        self.grant = grant
        self.held: deque[Request] = deque()  # submitted by the front, not yet by the engine
        self.requests: dict[int, int] = {}  # submitted to the workers: request id -> source tokens


class Engine:
    """Admits calls, submits their requests to the workers, and delivers answers to the connections of the calls.

    Locking: `_lock` guards the permits, the calls and the requests. `Workers.submit` is called with the lock held,
    `Workers.cancel` without it. The callback of the workers takes the lock. Answers are delivered without it.
    """

    remote = False

    def __init__(
        self,
        workers: Workers,
        *,
        max_queue: int,
        max_queue_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make an engine that owns `workers`.

        Args:
            workers: Decode the requests. They must be started.
            max_queue: Maximum number of requests in the engine.
            max_queue_tokens: Source tokens in the engine from which on no call is admitted and open calls have one
                request at a time.
            clock: Seconds; deadlines are times of this clock.
        """
        self._workers = workers
        self._clock = clock
        self._permits = Permits(max_queue, max_queue_tokens, backlog_seconds=lambda: workers.backlog_seconds)
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._requests: dict[int, _Call] = {}  # submitted to the workers, including those of calls that have ended
        self._connections = itertools.count()
        self._closed = False

    @property
    def healthy(self) -> bool:
        """False once part of it has died, or while a step hangs."""
        return self._workers.healthy

    @property
    def permits(self) -> Permits:
        """The permits, for reading only."""
        return self._permits

    @property
    def idle(self) -> bool:
        """Whether no call is open, and no request is in the engine."""
        return not self._calls and self._permits.idle

    def stats(self) -> EngineStats:
        """Current counts. Any thread may call it; it does not take the engine's lock."""
        return self._workers.stats()

    def connect(self, on_answers: OnAnswers) -> Connection:
        """Make a connection for a front in this process.

        `on_answers` is called with answers, on threads of the workers, or on the sending thread before `send` returns.
        It must be quick; exceptions that it raises are logged and dropped. Raises RuntimeError after `MAX_CONNECTIONS`
        connections.
        """
        return _LocalConnection(self, on_answers, next(self._connections))

    def close(self) -> None:
        """Refuse new calls, fail the remaining requests, and stop the workers."""
        with self._lock:
            self._closed = True
        self._workers.close()

    def receive(self, connection: _LocalConnection, message: Message) -> None:
        """Handle a message of a connection and deliver its answers. Any thread may call it."""
        answers: list[Answer] = []
        to_cancel: Sequence[int] = ()
        with self._lock:
            if isinstance(message, Open):
                self._open(connection, message, answers)
            elif (call := self._calls.get(message.call)) is None or call.connection is not connection:
                # The call has ended, and the front has been told.
                if isinstance(message, Submit):
                    answers.append(Failed(message.request.id, Cancelled("the call is over")))
            elif isinstance(message, Submit):
                self._submit(call, message.request, answers)
            elif isinstance(message, Expect):
                to_cancel = self._expect(call, message, answers)
            else:
                to_cancel = self._end(call, answers)
        for request_id in to_cancel:
            self._workers.cancel(request_id)
        if answers:
            connection.deliver(answers)

    def disconnect(self, connection: _LocalConnection) -> None:
        """Cancel all calls of a connection."""
        with self._lock:
            calls = [call for call in self._calls.values() if call.connection is connection]
        for call in calls:
            self.receive(connection, Cancel(call.id))

    def _open(self, connection: _LocalConnection, message: Open, answers: list[Answer]) -> None:
        if self._closed:
            answers.append(Refused(message.call, ShuttingDown("the model is being unloaded and takes no new work")))
            return
        try:
            grant = self._permits.take(message.window, message.client)
        except Overloaded as error:
            answers.append(Refused(message.call, error))
            return
        self._calls[message.call] = _Call(message.call, connection, grant)
        answers.append(Window(message.call, grant.count))

    def _expect(self, call: _Call, message: Expect, answers: list[Answer]) -> Sequence[int]:
        """Returns the requests to cancel, if the deadline cannot be met."""
        if message.deadline is not None:
            try:
                self._workers.check_time(message.work, message.deadline - self._clock())
            except Exception as error:
                to_cancel = self._end(call, answers)
                answers.append(Refused(call.id, _as_failure(error)))
                return to_cancel
        call.grant.expect(message.requests)
        self._end_if_done(call)
        return ()

    def _submit(self, call: _Call, request: Request, answers: list[Answer]) -> None:
        if len(call.requests) + len(call.held) >= call.grant.remaining:
            # Without a permit it would run unseen by `idle`.
            answers.append(Failed(request.id, EngineFailure("the call has submitted more requests than it expects")))
            return
        call.held.append(request)
        self._submit_held(call, answers)

    def _submit_held(self, call: _Call, answers: list[Answer]) -> None:
        """Submit the held requests of a call to the workers, as many as its permits allow; end the call if it is done.

        A request that the workers refuse is answered with `Failed`.
        """
        while call.held and call.grant.fits(tokens := len(call.held[0].source)):
            request = call.held.popleft()
            try:
                self._workers.submit(request, self._on_events)
            except Exception as error:
                answers.append(Failed(request.id, _as_failure(error)))
                call.grant.expect(call.grant.remaining - 1)
                continue
            call.grant.enter(tokens)
            call.requests[request.id] = tokens
            self._requests[request.id] = call
        self._end_if_done(call)

    def _on_events(self, events: Sequence[Event]) -> None:
        """Callback of the workers."""
        by_connection: dict[_LocalConnection, list[Answer]] = {}
        with self._lock:
            for event in events:
                call = self._requests.get(event.request_id)
                if call is None:
                    continue
                answers = by_connection.setdefault(call.connection, [])
                answers.append(event)
                if not isinstance(event, Progress):
                    self._request_ended(call, event.request_id, answers)
        for connection, answers in by_connection.items():
            connection.deliver(answers)

    def _request_ended(self, call: _Call, request_id: int, answers: list[Answer]) -> None:
        """Give the permit of an ended request back, or use it for the call's next request."""
        del self._requests[request_id]
        tokens = call.requests.pop(request_id)
        change = call.grant.leave(tokens)
        if call.id not in self._calls:
            return
        if change and call.grant.remaining > len(call.requests) + len(call.held):
            answers.append(Window(call.id, change))
        self._submit_held(call, answers)

    def _end_if_done(self, call: _Call) -> None:
        """Remove a call if all requests that it expects have ended."""
        if call.grant.remaining <= 0 and not call.held:
            del self._calls[call.id]

    def _end(self, call: _Call, answers: list[Answer]) -> Sequence[int]:
        """End a call: fail its held requests and give its permits back. Returns the requests that the workers have.

        Their permits are kept until they have ended.
        """
        del self._calls[call.id]
        answers += [Failed(request.id, Cancelled("cancelled by the caller")) for request in call.held]
        call.held.clear()
        call.grant.expect(0)
        return list(call.requests)


def _as_failure(error: Exception) -> DragomanError:
    """The error of a request or call that the workers did not take."""
    if isinstance(error, DragomanError):
        return error
    _log.error("the workers failed on a request", exc_info=error)
    return EngineFailure(f"the engine could not take the request: {error!r}")


def call_back(on_answers: OnAnswers, answers: Sequence[Answer]) -> None:
    """Give answers to a front. An exception that it raises is logged and dropped."""
    try:
        on_answers(answers)
    except Exception:
        _log.exception("a front failed on answers")


class _LocalConnection:
    """A connection within one process."""

    def __init__(self, engine: Engine, on_answers: OnAnswers, number: int) -> None:
        if number >= MAX_CONNECTIONS:
            raise RuntimeError(f"more than {MAX_CONNECTIONS} connections to an engine")
        self._engine = engine
        self._on_answers = on_answers
        self._ids = itertools.count(number, MAX_CONNECTIONS)
        self._closed = False

    @property
    def healthy(self) -> bool:
        return self._engine.healthy

    def new_id(self) -> int:
        return next(self._ids)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def send(self, message: Message) -> None:
        if not self._closed:
            self._engine.receive(self, message)

    def deliver(self, answers: Sequence[Answer]) -> None:
        """Call the front's callback."""
        if not self._closed:
            call_back(self._on_answers, answers)

    def close(self) -> None:
        self._closed = True
        self._engine.disconnect(self)
