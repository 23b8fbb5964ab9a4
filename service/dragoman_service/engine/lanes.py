"""Lanes: running batches of one model that are decoded in parallel, each on its own thread.

Threads within a step gain little on CPUs: a step is many small operations, and its threads must synchronise after each.
Steps of different lanes do not synchronise. A translation does not depend on its neighbours, hence not on its lane.
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
"""Maximum number of lanes if the settings give none. The Python code of steps runs in one lane at a time (the GIL)."""
LEAST_CLIENT_ROWS = 8
"""Rows of one client in a lane if the settings give none: steps with fewer rows take nearly as long."""


@dataclass(frozen=True, slots=True)
class Division:
    """How the rows and the threads of a model are divided over its lanes."""

    lanes: int
    rows: int
    """Rows of each lane, which is the maximum for one request."""
    threads: int
    """Threads that a step can use: the thread of its lane, and the threads that all lanes share."""
    client_rows: int
    """Rows of one client in each lane while other clients are served."""


def divide(settings: EngineSettings, cores: int) -> Division:
    """Divide the rows and threads of a model over lanes, on a machine with `cores` cores.

    If `settings.lanes` is 0, there is one lane for each thread, but at most `MOST_CHOSEN`, and at most as many as have
    rows for the widest beam. Threads beyond one for each lane are shared by all lanes. Raises InvalidInput for more
    lanes than threads.
    """
    threads = settings.threads or cores
    if settings.lanes > threads:
        raise InvalidInput("lanes", settings.lanes, f"0 to {threads}, the threads that compute")
    lanes = settings.lanes or max(1, min(threads, MOST_CHOSEN, settings.max_rows // MAX_BEAM_SIZE))
    return Division(
        lanes=lanes,
        rows=_ceil(settings.max_rows, lanes),
        threads=threads - lanes + 1,
        client_rows=_client_rows(settings, _ceil(settings.max_rows, lanes), lanes),
    )


def _client_rows(settings: EngineSettings, rows: int, lanes: int) -> int:
    """Rows of one client in each of `lanes` lanes of `rows` rows, on a CPU."""
    if settings.max_client_rows:
        return _ceil(settings.max_client_rows, lanes)
    return min(rows, max(LEAST_CLIENT_ROWS, _ceil(rows, 4)))


def one_lane(settings: EngineSettings) -> Division:
    """The division on a GPU: one lane, because a GPU executes the steps of several lanes one after another."""
    rows = settings.max_rows
    return Division(lanes=1, rows=rows, threads=1, client_rows=settings.max_client_rows or rows)


class Lanes:
    """The lanes of one model."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        """Own `lanes`: at least one, all of the same model and limits."""
        self._lanes = tuple(lanes)

    @property
    def healthy(self) -> bool:
        """False once any lane has died, or while one hangs. The other lanes go on; a dead lane needs a restart."""
        return all(lane.healthy for lane in self._lanes)

    @property
    def backlog_seconds(self) -> float:
        """Smallest expected time of a healthy lane to end all its requests; 0 while there are too few measurements."""
        return min((lane.backlog_seconds for lane in self._lanes if lane.healthy), default=0.0)

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable if no healthy lane can do its share of the work in time; see `Lane.check_time`."""
        refusal: DeadlineUnreachable | None = None
        lanes = [lane for lane in self._lanes if lane.healthy]
        for lane in lanes:
            try:
                lane.check_time(_ceil(work, len(lanes)), seconds)
            except DeadlineUnreachable as error:
                refusal = error
            else:
                return
        if refusal:
            raise refusal

    def start(self) -> None:
        """Start all lanes. To be called once."""
        for lane in self._lanes:
            lane.start()

    def submit(self, request: Request, on_events: OnEvents) -> None:
        """Submit a request to the healthy lane with the fewest rows of unfinished requests; see `Lane.submit`.

        Request ids must be unique over all lanes, which is not checked. Raises `EngineFailure` if no lane is healthy.
        """
        for lane in sorted(self._lanes, key=_rows):
            if lane.healthy:
                with suppress(EngineFailure):  # the lane has died since the check
                    lane.submit(request, on_events)
                    return
        raise EngineFailure("all lanes have died or hang")

    def cancel(self, request_id: int) -> None:
        """Cancel a request. Does nothing if it has ended."""
        for lane in self._lanes:
            lane.cancel(request_id)

    def stats(self) -> EngineStats:
        """The sums over all lanes."""
        return reduce(add, (lane.stats() for lane in self._lanes))

    def close(self) -> None:
        """Fail the remaining requests and stop all lanes."""
        for lane in self._lanes:
            lane.drain(0)  # all refuse before the first is closed: no lane receives the requests of another
        for lane in self._lanes:
            lane.close()


def _rows(lane: Lane) -> int:
    return lane.rows


def _ceil(whole: int, parts: int) -> int:
    return -(-whole // parts)
