"""Feeds requests to an engine from the event loop, and takes back what cancellation or failure leaves behind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress

from dragoman_service.models import RequestEngine
from dragoman_service.permits import Grant
from dragoman_service.request import Event, Failed, Finished, Progress, Request


class Ticket:
    """A request in the engine, seen from the event loop. It uses one permit of its call until its last event."""

    def __init__(self, engine: RequestEngine, request: Request, grant: Grant) -> None:
        self._engine = engine
        self._grant = grant
        self._id = request.id
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._ended = False
        loop = asyncio.get_running_loop()

        def deliver(event: Event) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits for this any more
                loop.call_soon_threadsafe(self._arrived, event)

        engine.submit(request, deliver)
        grant.enter()

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

    def _arrived(self, event: Event) -> None:
        self._events.put_nowait(event)
        if not isinstance(event, Progress):
            self._grant.leave()


class Window:
    """Keeps as many requests in the engine as permits were granted, and hands out their events in order."""

    def __init__(self, engine: RequestEngine, wanted: Iterator[Request], grant: Grant) -> None:
        self._engine = engine
        self._wanted = wanted
        self._grant = grant
        self._size = grant.count
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
            self._tickets.append(Ticket(self._engine, request, self._grant))

    def __enter__(self) -> Window:
        return self

    def __exit__(self, *_: object) -> None:
        for ticket in self._tickets:
            ticket.cancel()


async def _finish(engine: RequestEngine, request: Request, grant: Grant) -> Finished:
    ticket = Ticket(engine, request, grant)
    try:
        while not isinstance(event := await ticket.next(), Finished):
            pass
        return event
    finally:
        ticket.cancel()


async def finish_all(engine: RequestEngine, wanted: Iterator[Request], grant: Grant) -> list[Finished]:
    """Run all requests, as many at a time as permits were granted; returns their ends in the same order.

    The first failure cancels the others and is raised.
    """
    answers: dict[int, Finished] = {}
    waiting = enumerate(wanted)

    async def feed() -> None:
        for index, request in waiting:
            answers[index] = await _finish(engine, request, grant)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(grant.count):
                group.create_task(feed())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return [answers[index] for index in range(len(answers))]
