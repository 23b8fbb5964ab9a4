"""Feeds requests to an engine from the event loop, and takes back what cancellation or failure leaves behind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress

from dragoman_service.models import RequestEngine
from dragoman_service.request import Event, Failed, Finished, Progress, Request


class Ticket:
    """A request in the engine, seen from the event loop."""

    def __init__(self, engine: RequestEngine, request: Request) -> None:
        self._engine = engine
        self._id = request.id
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._ended = False
        loop = asyncio.get_running_loop()

        def deliver(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
                loop.call_soon_threadsafe(self._events.put_nowait, event)

        engine.submit(request, deliver)

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
            self._engine.cancel(self._id)


class Window:
    """Keeps up to `size` requests in the engine and hands out their events in the order of the requests."""

    def __init__(self, engine: RequestEngine, wanted: Iterator[Request], size: int) -> None:
        self._engine = engine
        self._wanted = wanted
        self._size = size
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
        while len(self._tickets) < self._size and (request := next(self._wanted, None)):
            self._tickets.append(Ticket(self._engine, request))

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        for ticket in self._tickets:
            ticket.cancel()


async def _finish(engine: RequestEngine, request: Request) -> Finished:
    ticket = Ticket(engine, request)
    try:
        while not isinstance(event := await ticket.next(), Finished):
            pass
        return event
    finally:
        ticket.cancel()


async def finish_all(engine: RequestEngine, wanted: Sequence[Request], window: int) -> list[Finished]:
    """Run all requests, at most `window` of them at a time; the first failure cancels the others and is raised."""
    answers: dict[int, Finished] = {}
    waiting = iter(wanted)

    async def feed() -> None:
        for request in waiting:
            answers[request.id] = await _finish(engine, request)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(window, len(wanted))):
                group.create_task(feed())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [answers[request.id] for request in wanted]
