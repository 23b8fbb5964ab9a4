"""Feeds requests to an engine from the event loop, and takes back what cancellation or failure leaves behind."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress

from dragoman_service.engine.lanes import RequestEngine
from dragoman_service.engine.permits import Grant
from dragoman_service.engine.request import Event, Failed, Finished, Progress, Request


class Receivers:
    """The event loop's end of all engines: who waits for the events of which request.

    All that a step decided comes over from an engine's thread at once: waking the loop costs more than most events.
    """

    def __init__(self) -> None:
        """To be made on the event loop that it is used on."""
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count()
        self._waiting: dict[int, tuple[Grant, int, Callable[[Event], None]]] = {}
        """By request id: the grant, source tokens, and who wants its events."""

    def new_id(self) -> int:
        """An id for a request, unique over all engines."""
        return next(self._ids)

    def add(self, request: Request, grant: Grant, on_event: Callable[[Event], None]) -> None:
        """Wait for the events of a request that an engine has taken."""
        tokens = len(request.source)
        grant.enter(tokens)
        self._waiting[request.id] = (grant, tokens, on_event)

    def receive(self, events: Sequence[Event]) -> None:
        """To be called by engines, on their threads."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
            self._loop.call_soon_threadsafe(self._arrived, events)

    def _arrived(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Progress):
                self._waiting[event.request_id][2](event)
            else:
                grant, tokens, on_event = self._waiting.pop(event.request_id)
                grant.leave(tokens)
                on_event(event)


class Mailbox:
    """An engine, seen from the event loop."""

    def __init__(self, engine: RequestEngine, receivers: Receivers) -> None:
        self._engine = engine
        self._receivers = receivers

    def submit(self, request: Request, grant: Grant, on_event: Callable[[Event], None]) -> None:
        """Submit a request, which uses one permit until its last event; `on_event` is called on the event loop.

        Raises as the engine's `submit` does.
        """
        self._engine.submit(request, self._receivers.receive)
        self._receivers.add(request, grant, on_event)

    def cancel(self, request_id: int) -> None:
        """Give a request up. Its last event comes all the same, as it does if the request has ended already."""
        self._engine.cancel(request_id)


class Ticket:
    """A request in the engine whose events are read one after the other."""

    def __init__(self, mailbox: Mailbox, request: Request, grant: Grant) -> None:
        self._mailbox = mailbox
        self._id = request.id
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._ended = False
        mailbox.submit(request, grant, self._events.put_nowait)

    async def next(self) -> Progress | Finished:
        """The next event; raises the error of a Failed."""
        event = await self._events.get()
        if isinstance(event, Failed):
            self._ended = True
            raise event.error
        self._ended = isinstance(event, Finished)
        return event

    def cancel(self) -> None:
        """Give the request up, unless it has ended."""
        if not self._ended:
            self._ended = True
            self._mailbox.cancel(self._id)


class _Supply:
    """The requests of a call, each made when its turn comes: all at once would hold up the event loop."""

    def __init__(self, wanted: Iterator[Request], grant: Grant) -> None:
        self._wanted = wanted
        self._grant = grant
        self._next: Request | None = None

    def take(self) -> Request | None:
        """The next request, if there is one and there is room for it in the engine."""
        if self._next is None:
            self._next = next(self._wanted, None)
        if self._next is None or not self._grant.fits(len(self._next.source)):
            return None
        request, self._next = self._next, None
        return request


class Window:
    """Keeps as many requests in the engine as permits were granted, and hands out their events in order."""

    def __init__(self, mailbox: Mailbox, wanted: Iterator[Request], grant: Grant) -> None:
        self._mailbox = mailbox
        self._supply = _Supply(wanted, grant)
        self._grant = grant
        self._tickets: deque[Ticket] = deque()

    async def next_request(self) -> AsyncIterator[Progress | Finished]:
        """The events of the next request; the last is Finished."""
        self._fill()
        event: Progress | Finished | None = None
        while not isinstance(event, Finished):
            event = await self._tickets[0].next()
            if isinstance(event, Finished):
                self._tickets.popleft()
                self._fill()
            yield event

    def _fill(self) -> None:
        while len(self._tickets) < self._grant.count and (request := self._supply.take()):
            self._tickets.append(Ticket(self._mailbox, request, self._grant))

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        for ticket in self._tickets:
            ticket.cancel()


class _Crowd:
    """Requests of which only the ends are of interest; `done` has these, in order, or the first failure."""

    def __init__(self, mailbox: Mailbox, wanted: Iterator[Request], grant: Grant) -> None:
        self._mailbox = mailbox
        self._supply = _Supply(wanted, grant)
        self._grant = grant
        self._answers: dict[int, Finished | None] = {}
        """By request id, in the order of submission; None as long as a request is in the engine."""
        self._running = 0
        self.done: asyncio.Future[list[Finished]] = asyncio.get_running_loop().create_future()
        self._go_on()

    def cancel(self) -> None:
        """Give up what is in the engine."""
        if self._running:
            for request_id, answer in self._answers.items():
                if answer is None:
                    self._mailbox.cancel(request_id)

    def _go_on(self) -> None:
        """Submit what there is room for; what the engine has against one is the failure of all."""
        try:
            while request := self._supply.take():
                self._mailbox.submit(request, self._grant, self._arrived)
                self._answers[request.id] = None
                self._running += 1
        except Exception as error:
            self.done.set_exception(error)
            return
        if not self._running:
            self.done.set_result([answer for answer in self._answers.values() if answer])

    def _arrived(self, event: Event) -> None:
        if isinstance(event, Progress):
            return
        self._running -= 1
        if self.done.done():  # failed or cancelled: what still comes is of no interest
            return
        if isinstance(event, Failed):
            self.done.set_exception(event.error)
            return
        self._answers[event.request_id] = event
        self._go_on()


async def finish_all(mailbox: Mailbox, wanted: Iterator[Request], grant: Grant) -> list[Finished]:
    """Run all requests, as many at a time as permits were granted; returns their ends in the same order.

    The first failure cancels the others and is raised.
    """
    crowd = _Crowd(mailbox, wanted, grant)
    try:
        return await crowd.done
    finally:
        crowd.cancel()
