"""Who joins the running batch next: fair between clients, and interactive work before batch work."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from dragoman_service.request import Priority, Request
from dragoman_service.running import Waiting

WEIGHTS = {Priority.INTERACTIVE: 16.0, Priority.BATCH: 1.0}
"""Shares of the work while there is more of it than rows: a batch request never waits for ever, and never long."""

_SLACK = 64
"""Entries that may lie about for nobody who waits."""


class FairQueue:
    """Start-time fair queueing (Goyal, Vin and Cheng, 1996). A flow is one client's requests of one priority.

    A request's work is its source tokens times its rows. Each request begins, in virtual time, where its flow's last
    one ended, or now if that is over; the least such start is served next, and is what virtual time then is. So flows
    that have something waiting share the work by their weights, however much each has waiting, and within a flow it is
    first come, first served.
    """

    def __init__(self) -> None:
        self._waiting: dict[int, Waiting] = {}
        self._order: list[tuple[float, int, int]] = []
        """A heap of start, serial number, and request id. Ids that are not waiting any more are skipped when met."""
        self._ends: dict[tuple[str, Priority], float] = {}
        self._now = 0.0
        self._serial = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._waiting

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they would be served if nobody else came."""
        order = self._order.copy()
        while order:
            waiting = self._waiting.get(heappop(order)[2])
            if waiting is not None:
                yield waiting

    def sources(self, max_tokens: int) -> tuple[tuple[int, ...], ...]:
        """The source tokens of the first, at most so many together."""
        sources: list[tuple[int, ...]] = []
        for waiting in self:
            max_tokens -= len(waiting.request.source)
            if max_tokens < 0:
                break
            sources.append(waiting.request.source)
        return tuple(sources)

    def push(self, waiting: Waiting) -> None:
        """Add a request, whose id must not be in use."""
        request = waiting.request
        flow = _flow_of(request)
        start = max(self._now, self._ends.get(flow, 0.0))
        self._ends[flow] = start + work_of(request) / WEIGHTS[request.priority]
        self._waiting[request.id] = waiting
        self._serial += 1
        heappush(self._order, (start, self._serial, request.id))

    def head(self) -> Waiting | None:
        """Who is next."""
        while self._order:
            waiting = self._waiting.get(self._order[0][2])
            if waiting is not None:
                return waiting
            heappop(self._order)
        return None

    def pop(self) -> None:
        """Take the head out, because it is served."""
        self._now, _, request_id = heappop(self._order)
        del self._waiting[request_id]
        self._tidy()

    def remove(self, request_id: int) -> bool:
        """Take a request out that is not going to be served; whether it was there."""
        found = self._waiting.pop(request_id, None) is not None
        self._tidy()
        return found

    def _tidy(self) -> None:
        """Keep no more than a few entries for each request that waits.

        A flow that ended may have ended ahead of the others: what it had too much is forgiven, for a stream of ever new
        clients would else never let go of any.
        """
        most = _SLACK + 2 * len(self._waiting)
        if not self._waiting:
            self._order.clear()
            self._ends.clear()
            self._now = 0.0
        if len(self._ends) > most:
            flows = {_flow_of(waiting.request) for waiting in self._waiting.values()}
            self._ends = {flow: end for flow, end in self._ends.items() if flow in flows}
        if len(self._order) > most:
            self._order = [entry for entry in self._order if entry[2] in self._waiting]
            heapify(self._order)


def work_of(request: Request) -> int:
    """What a request costs, near enough to compare: source tokens times rows."""
    return len(request.source) * request.options.num_rows


def _flow_of(request: Request) -> tuple[str, Priority]:
    return request.client, request.priority
