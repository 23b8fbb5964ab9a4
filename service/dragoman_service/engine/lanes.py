"""Lanes: running batches of one model that are decoded side by side, each on a thread of its own.

Threads inside a step gain little on CPUs, as a step is many small operations with a meeting of the threads after each.
Steps side by side never meet. A translation does not depend on its neighbours, so nobody can see which lane it took.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import reduce
from operator import add

from dragoman_service.engine.lane import Lane, OnEvents
from dragoman_service.engine.request import MAX_BEAM_SIZE, Request
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.engine.stats import EngineStats
from dragoman_service.errors import DeadlineUnreachable, EngineFailure, InvalidInput

MOST_CHOSEN = 4
"""Lanes at most, unless somebody asks for more: what a step does in Python, one lane does at a time."""


@dataclass(frozen=True, slots=True)
class Division:
    """How the rows and the threads of a model are divided over its lanes."""

    lanes: int
    rows: int
    """Rows of each lane, which is the most that one request can have."""
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
        threads=threads - lanes + 1,
    )


def one_lane(settings: EngineSettings) -> Division:
    """The division on a GPU, which does one thing after the other whoever asks."""
    return Division(lanes=1, rows=settings.max_rows, threads=1)


class Lanes:
    """The lanes of one model."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Take over lanes of the same model and limits, at least one."""
        self._lanes = tuple(lanes)

    @property
    def healthy(self) -> bool:
        """False once any lane has died, or while one hangs. The others work on, but only a restart brings it back."""
        return all(lane.healthy for lane in self._lanes)

    @property
    def backlog_seconds(self) -> float:
        """What the lane that will be done first is expected to take; 0 while too little is known."""
        return min(lane.backlog_seconds for lane in self._lanes)

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable if no lane could do its part in time; see `Lane.check_time`."""
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

    def submit(self, request: Request, on_events: OnEvents) -> None:
        """Submit a request to the living lane with the fewest rows to work on; see `Lane.submit`.

        Request ids must be unique over all lanes, which is not checked. Raises `EngineFailure` only if no lane lives.
        """
        for lane in sorted(self._lanes, key=_rows):
            if lane.healthy:
                with suppress(EngineFailure):  # died since we looked
                    lane.submit(request, on_events)
                    return
        raise EngineFailure("all lanes have died or hang")

    def cancel(self, request_id: int) -> None:
        """Cancel a request; nothing happens if it has ended."""
        for lane in self._lanes:
            lane.cancel(request_id)

    def stats(self) -> EngineStats:
        """The sums over all lanes."""
        return reduce(add, (lane.stats() for lane in self._lanes))

    def close(self) -> None:
        """Fail what is left, and stop."""
        for lane in self._lanes:
            lane.drain(0)  # all refuse before one is closed, so that none gets the work of another
        for lane in self._lanes:
            lane.close()


def _rows(lane: Lane) -> int:
    return lane.rows


def _ceil(whole: int, parts: int) -> int:
    return -(-whole // parts)
