"""The engine of one model, as fronts see it: messages in, answers out. Admission and quotas are on this side."""

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

MAX_CONNECTIONS = 1024
"""Over the life of an engine; ids of calls and requests are unique over all of its connections."""

OnAnswers = Callable[[Sequence[Answer]], None]

_log = logging.getLogger(__name__)


class Workers(Protocol):
    """What decodes: `lanes.Lanes`."""

    @property
    def healthy(self) -> bool:
        """False once it cannot work any more, or while it hangs."""
        ...

    @property
    def backlog_seconds(self) -> float:
        """What all requests that have not ended are expected to take; 0 while too little is known."""
        ...

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable for what cannot be done in so many seconds."""
        ...

    def submit(self, request: Request, on_events: OnEvents) -> None:
        """Accept a request, or raise one of `dragoman_service.errors`; `on_events` is called on other threads."""
        ...

    def cancel(self, request_id: int) -> None:
        """End a request with Failed(Cancelled), unless it has ended."""
        ...

    def stats(self) -> EngineStats:
        """Counts of this moment."""
        ...

    def close(self) -> None:
        """Fail what is left, and stop."""
        ...


class Connection(Protocol):
    """A front's end of the line: `Engine.connect` in one process, `pipe.connect` between two."""

    def new_id(self) -> int:
        """An id for a call or a request."""
        ...

    def send(self, message: Message) -> None:
        """Send a message. It never raises; answers come to the callback, on any thread, even before this returns."""
        ...

    @property
    def healthy(self) -> bool:
        """Whether the engine works, as far as is known here."""
        ...

    def stats(self) -> EngineStats:
        """The newest counts that are known here."""
        ...

    def close(self) -> None:
        """Cancel the calls of this connection."""
        ...


class _Call:
    """A call that is open."""

    __slots__ = ("connection", "grant", "held", "id", "requests")

    def __init__(self, call_id: int, connection: _LocalConnection, grant: Grant) -> None:
        self.id = call_id
        self.connection = connection
        self.grant = grant
        self.held: deque[Request] = deque()  # submitted, and not yet let in
        self.requests: dict[int, int] = {}  # with the workers: request id -> source tokens


class Engine:
    """Admits calls, hands their requests to the workers, and sends the answers to the connections that they came from.

    Locking: `_lock` guards the permits, the calls and the requests. Workers are asked to submit with the lock held, and
    to cancel without it; their callbacks take it. Answers are delivered without it.
    """

    def __init__(
        self,
        workers: Workers,
        *,
        max_queue: int,
        max_queue_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take over the workers, which are started.

        Args:
            workers: Decode what is admitted.
            max_queue: Requests in the engine at once.
            max_queue_tokens: Source tokens in the engine at once; beyond them no call is admitted, and those that are
                have one request at a time.
            clock: Of the deadlines; seconds.
        """
        self._workers = workers
        self._clock = clock
        self._permits = Permits(max_queue, max_queue_tokens, backlog_seconds=lambda: workers.backlog_seconds)
        self._lock = threading.Lock()
        self._calls: dict[int, _Call] = {}
        self._requests: dict[int, _Call] = {}  # with the workers; of calls that are over too
        self._connections = itertools.count()
        self._closed = False

    @property
    def healthy(self) -> bool:
        """False once it cannot work any more, or while it hangs."""
        return self._workers.healthy

    @property
    def permits(self) -> Permits:
        """What is admitted, to look at."""
        return self._permits

    @property
    def idle(self) -> bool:
        """Whether no call is open and no request in the engine."""
        return self._permits.idle

    def stats(self) -> EngineStats:
        """Counts of this moment; from any thread, without waiting for the engine."""
        return self._workers.stats()

    def connect(self, on_answers: OnAnswers) -> Connection:
        """Make a connection for a front of this process.

        `on_answers` is called with what there is to tell, on the workers' threads, or on the one that sends before
        `send` returns. It must be quick; what it raises is logged and dropped.
        """
        return _LocalConnection(self, on_answers, next(self._connections))

    def close(self) -> None:
        """Refuse new calls, fail the requests that are left, and stop the workers."""
        with self._lock:
            self._closed = True
        self._workers.close()

    def receive(self, connection: _LocalConnection, message: Message) -> None:
        """Handle a message of a connection."""
        answers: list[Answer] = []
        to_cancel: list[int] = []
        with self._lock:
            if isinstance(message, Submit):
                self._submit(connection, message, answers)
            elif isinstance(message, Open):
                self._open(connection, message, answers)
            elif isinstance(message, Expect):
                self._expect(message, answers)
            elif (call := self._calls.get(message.call)) is not None:
                to_cancel = list(call.requests)
                self._end(call, answers)
        for request_id in to_cancel:
            self._workers.cancel(request_id)
        if answers:
            connection.deliver(answers)

    def disconnect(self, connection: _LocalConnection) -> None:
        """Cancel the calls of a connection, whose answers nobody wants any more."""
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

    def _expect(self, message: Expect, answers: list[Answer]) -> None:
        call = self._calls.get(message.call)
        if call is None:  # it is over, and the front will have heard of it
            return
        if message.deadline is not None:
            try:
                self._workers.check_time(message.work, message.deadline - self._clock())
            except DragomanError as error:
                self._end(call, answers)
                answers.append(Refused(call.id, error))
                return
        call.grant.expect(message.requests)
        self._end_if_done(call)

    def _submit(self, connection: _LocalConnection, message: Submit, answers: list[Answer]) -> None:
        call = self._calls.get(message.call)
        request = message.request
        if call is None or call.connection is not connection:
            answers.append(Failed(request.id, Cancelled("the call is over")))
            return
        call.held.append(request)
        self._let_in(call, answers)

    def _let_in(self, call: _Call, answers: list[Answer]) -> None:
        """Hand over the requests of a call that there is room for."""
        while call.held and call.grant.fits(tokens := len(call.held[0].source)):
            request = call.held.popleft()
            try:
                self._workers.submit(request, self._on_events)
            except Exception as error:
                if not isinstance(error, DragomanError):
                    _log.exception("a request could not be submitted")
                    error = EngineFailure(f"the engine could not take the request: {error!r}")
                answers.append(Failed(request.id, error))
                call.grant.expect(call.grant.remaining - 1)
                continue
            call.grant.enter(tokens)
            call.requests[request.id] = tokens
            self._requests[request.id] = call
        self._end_if_done(call)

    def _on_events(self, events: Sequence[Event]) -> None:
        """What the workers call back with."""
        by_connection: dict[_LocalConnection, list[Answer]] = {}
        with self._lock:
            for event in events:
                call = self._requests.get(event.request_id)
                if call is None:
                    continue
                answers = by_connection.setdefault(call.connection, [])
                answers.append(event)
                if not isinstance(event, Progress):
                    self._leave(call, event.request_id, answers)
        for connection, answers in by_connection.items():
            connection.deliver(answers)

    def _leave(self, call: _Call, request_id: int, answers: list[Answer]) -> None:
        """A request has ended: its permit goes back, or to the call's next request."""
        del self._requests[request_id]
        tokens = call.requests.pop(request_id)
        change = call.grant.leave(tokens)
        if call.id not in self._calls:
            return
        if change and call.grant.remaining > len(call.requests) + len(call.held):
            answers.append(Window(call.id, change))
        self._let_in(call, answers)

    def _end_if_done(self, call: _Call) -> None:
        if call.grant.remaining <= 0 and not call.held:
            del self._calls[call.id]

    def _end(self, call: _Call, answers: list[Answer]) -> None:
        """Forget a call. The permits of requests with the workers are kept until these have ended."""
        del self._calls[call.id]
        answers += [Failed(request.id, Cancelled("cancelled by the caller")) for request in call.held]
        call.held.clear()
        call.grant.expect(0)


class _LocalConnection:
    """A connection within one process."""

    def __init__(self, engine: Engine, on_answers: OnAnswers, number: int) -> None:
        if number >= MAX_CONNECTIONS:
            raise RuntimeError(f"more than {MAX_CONNECTIONS} connections to an engine")
        self._engine = engine
        self._on_answers = on_answers
        self._ids = itertools.count(number, MAX_CONNECTIONS)

    @property
    def healthy(self) -> bool:
        return self._engine.healthy

    def new_id(self) -> int:
        return next(self._ids)

    def stats(self) -> EngineStats:
        return self._engine.stats()

    def send(self, message: Message) -> None:
        self._engine.receive(self, message)

    def deliver(self, answers: Sequence[Answer]) -> None:
        """Call back."""
        try:
            self._on_answers(answers)
        except Exception:
            _log.exception("a front failed on answers")

    def close(self) -> None:
        self._engine.disconnect(self)
