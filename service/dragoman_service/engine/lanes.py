"""Lanes: several engines that serve one model side by side, each with a running batch of its own.

Threads inside a step gain little on CPUs, as a step is many small operations with a meeting of the threads after each.
Steps side by side never meet. A translation does not depend on its neighbours, so nobody can see which lane it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from dragoman_service.engine.observer import EngineStats
from dragoman_service.engine.request import MAX_BEAM_SIZE, Event, Request
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.errors import DeadlineUnreachable, EngineFailure, InvalidInput, Overloaded

MOST_CHOSEN = 4
"""Lanes at most, unless somebody asks for more: what a step does in Python, one lane does at a time."""


class RequestEngine(Protocol):
    """What the frontend and the server ask of an engine: one `engine.Engine`, or `lanes.Lanes` of them."""

    @property
    def healthy(self) -> bool:
        """False once it cannot work any more, or while it hangs."""
        ...

    @property
    def backlog_seconds(self) -> float:
        """What all requests that have not had their last event are expected to take; 0 while too little is known."""
        ...

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable for what cannot be done in so many seconds, even with the engine to itself.

        `work` is in source tokens, each times the rows of its request.
        """
        ...

    def submit(self, request: Request, on_events: Callable[[Sequence[Event]], None]) -> None:
        """Take a request; `on_events` is called on another thread, at last with Finished or Failed.

        What a step decides about requests with an equal `on_events` comes in one call.
        """
        ...

    def cancel(self, request_id: int) -> None:
        """Give a request up; nothing happens if it has ended."""
        ...

    def close(self) -> None:
        """Fail what is left, and stop."""
        ...


@dataclass(frozen=True, slots=True)
class Division:
    """How the rows, the queue and the threads of a model are divided over its lanes."""

    lanes: int
    rows: int
    """Rows of each lane, which is the most that one request can have."""
    queue: int
    """Requests that may wait in each lane."""
    threads: int
    """Threads that a step can use: that of its lane, and those that all lanes share."""


def divide(settings: EngineSettings, cores: int) -> Division:
    """Divide a model over lanes, on a machine with so many cores.

    Left to us, there is a lane for each thread, but no more than `MOST_CHOSEN`, and each has rows for the widest beam.
    Threads that are no lane's own help whichever lane is in a step. Raises InvalidInput for more lanes than threads.
    """
    threads = settings.threads or cores
    if settings.lanes > threads:
        raise InvalidInput("lanes", settings.lanes, f"0 to {threads}, the threads that compute")
    lanes = settings.lanes or max(1, min(threads, MOST_CHOSEN, settings.max_rows // MAX_BEAM_SIZE))
    return Division(
        lanes=lanes,
        rows=_ceil(settings.max_rows, lanes),
        queue=_ceil(settings.max_queue, lanes),
        threads=threads - lanes + 1,
    )


def one_lane(settings: EngineSettings) -> Division:
    """The division on a GPU, which does one thing after the other whoever asks."""
    return Division(lanes=1, rows=settings.max_rows, queue=settings.max_queue, threads=1)


class Lane(RequestEngine, Protocol):
    """What is asked of the engine of a lane; `dragoman_service.engine.engine.Engine` is the one."""

    @property
    def load(self) -> int:
        """Rows of all requests that have not had their last event."""
        ...

    def start(self) -> None:
        """Begin to work; once only."""
        ...

    def stats(self) -> EngineStats:
        """Counts at this moment."""
        ...

    def drain(self, timeout: float) -> bool:
        """Refuse new work and wait, at most `timeout` seconds, for what was accepted; whether all of it ended."""
        ...


class Lanes(RequestEngine):
    """Engines of one model as one engine, to be used as each of them: see `dragoman_service.engine.engine.Engine`."""

    def __init__(self, lanes: Sequence[Lane], *, clock: Callable[[], float] = time.monotonic) -> None:
        """Take over engines of the same model and limits, at least one."""
        self._lanes = tuple(lanes)
        self._clock = clock

    @property
    def healthy(self) -> bool:
        """False once any lane has died: the others work on, but only a restart brings it back. Or while one hangs."""
        return all(lane.healthy for lane in self._lanes)

    @property
    def backlog_seconds(self) -> float:
        """Of the lane that will be done first."""
        return min(lane.backlog_seconds for lane in self._lanes)

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable if no lane could do its part in time."""
        refusal: DeadlineUnreachable | None = None
        for lane in self._lanes:
            try:
                lane.check_time(_ceil(work, len(self._lanes)), seconds)
            except DeadlineUnreachable as error:
                refusal = error
            else:
                return
        if refusal:
            raise refusal

    def start(self) -> None:
        """Start all lanes; once only."""
        for lane in self._lanes:
            lane.start()

    def submit(self, request: Request, on_events: Callable[[Sequence[Event]], None]) -> None:
        """Submit a request to the living lane with the fewest rows to work on; see `Engine.submit`.

        Request ids must be unique over all lanes, which is not checked. Raises `Overloaded` only if no living lane has
        room in its queue, and `EngineFailure` only if none lives.
        """
        refusal: Exception = EngineFailure("all lanes have died or hang")
        for lane in sorted(self._lanes, key=lambda lane: lane.load):
            if not lane.healthy:
                continue
            try:
                lane.submit(request, on_events)
            except Overloaded as error:
                refusal = error
            except EngineFailure:  # died since we looked
                continue
            else:
                return
        raise refusal

    def cancel(self, request_id: int) -> None:
        """Give a request up; nothing happens if it has ended."""
        for lane in self._lanes:
            lane.cancel(request_id)

    def stats(self) -> EngineStats:
        """The sums over all lanes."""
        parts = [lane.stats() for lane in self._lanes]
        sums = {field.name: sum(getattr(part, field.name) for part in parts) for field in fields(EngineStats)}
        return EngineStats(**sums)

    def drain(self, timeout: float) -> bool:
        """Refuse new work and wait, at most `timeout` seconds, for what was accepted; whether all of it ended."""
        end = self._clock() + timeout
        for lane in self._lanes:
            lane.drain(0)  # all refuse before any is waited for
        return all(lane.drain(max(0.0, end - self._clock())) for lane in self._lanes)

    def close(self) -> None:
        """Fail what is left, and stop."""
        for lane in self._lanes:
            lane.drain(0)
        for lane in self._lanes:
            lane.close()


def _ceil(whole: int, parts: int) -> int:
    return -(-whole // parts)
