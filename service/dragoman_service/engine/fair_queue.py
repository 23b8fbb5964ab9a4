"""Who joins the running batch next: fair between clients, and interactive work before batch work."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from dragoman_service.engine.batch import Waiting
from dragoman_service.engine.request import Priority, Request

WEIGHTS = {Priority.INTERACTIVE: 16.0, Priority.BATCH: 1.0}
"""Shares of the work while there is more of it than rows: a batch request never waits for ever, and never long."""

_SLACK = 64
"""Entries that may lie about for nobody who waits."""

_Key = tuple[str, Priority]
_Entry = tuple[float, int, int, _Key]
"""Start of a flow's first request, its serial number, the number of the entry, and the flow."""


@dataclass(slots=True)
class _Flow:
    """One client's requests of one priority."""

    waiting: dict[int, tuple[int, Waiting]] = field(default_factory=dict)
    """By request id, the first first; with serial numbers."""
    start: float = 0.0
    """Where the first that waits begins, in virtual time; where the last one ended, if none does."""
    turn: int = 0
    """The number of its entry in the order."""


class FairQueue:
    """Start-time fair queueing (Goyal, Vin and Cheng, 1996). A flow is one client's requests of one priority.

    A request's work is its source tokens times its rows. Every request has a start in virtual time: the end of the
    request that its flow was served before, or the time at which it came, whichever is later. The request with the
    least start is served next, and virtual time moves to that start. So flows share the work by their weights, however
    many requests each has. Within a flow, the first to come is the first served. A request that is removed costs its
    flow nothing.
    """

    def __init__(self) -> None:
        self._keys: dict[int, _Key] = {}
        """Of those that wait, by request id."""
        self._flows: dict[_Key, _Flow] = {}
        self._order: list[_Entry] = []
        """A heap with an entry for each flow that waits, and some that are not valid any more: see `_is_valid`."""
        self._now = 0.0
        self._serial = 0
        self._entries = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._keys

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they would be served if nobody else came."""
        order = [entry for entry in self._order if self._is_valid(entry)]
        heapify(order)
        lines = {key: iter(self._flows[key].waiting.values()) for *_, key in order}
        firsts = {key: next(line) for key, line in lines.items()}
        while order:
            start, _, turn, key = heappop(order)
            _, waiting = firsts[key]
            following = next(lines[key], None)
            if following is not None:
                firsts[key] = following
                heappush(order, (start + _cost_of(waiting.request), following[0], turn, key))
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
        key = (request.client, request.priority)
        self._serial += 1
        self._keys[request.id] = key
        flow = self._flows.setdefault(key, _Flow())
        flow.waiting[request.id] = (self._serial, waiting)
        if len(flow.waiting) == 1:
            self._enter(key, flow, max(self._now, flow.start))

    def head(self) -> Waiting | None:
        """The request that is next."""
        key = self._head_key()
        return None if key is None else next(iter(self._flows[key].waiting.values()))[1]

    def _head_key(self) -> _Key | None:
        while self._order:
            if self._is_valid(self._order[0]):
                return self._order[0][3]
            heappop(self._order)
        return None

    def get(self, request_id: int) -> Waiting | None:
        """The request with an id, if it waits."""
        key = self._keys.get(request_id)
        return None if key is None else self._flows[key].waiting[request_id][1]

    def pop(self) -> None:
        """Take the head out, because it is served."""
        head = self.head()
        assert head is not None
        self.serve(head.request.id)

    def serve(self, request_id: int) -> None:
        """Take a request out, because it is served: the head, or one that overtakes it. Its flow pays for it."""
        key = self._keys[request_id]
        flow = self._flows[key]
        if self._head_key() == key and next(iter(flow.waiting)) == request_id:
            self._now = flow.start
        _, waiting = flow.waiting.pop(request_id)
        del self._keys[request_id]
        flow.start += _cost_of(waiting.request)
        if flow.waiting:
            self._enter(key, flow, flow.start)
        self._tidy()

    def remove(self, request_id: int) -> bool:
        """Take a request out that is not going to be served; whether it was there."""
        key = self._keys.pop(request_id, None)
        if key is not None:
            del self._flows[key].waiting[request_id]
            self._tidy()
        return key is not None

    def _enter(self, key: _Key, flow: _Flow, start: float) -> None:
        flow.start = start
        self._entries += 1
        flow.turn = self._entries
        heappush(self._order, (start, next(iter(flow.waiting.values()))[0], flow.turn, key))

    def _is_valid(self, entry: _Entry) -> bool:
        flow = self._flows.get(entry[3])
        return flow is not None and flow.turn == entry[2] and bool(flow.waiting)

    def _tidy(self) -> None:
        """Keep no more than a few entries for each request that waits.

        Flows without waiting requests are forgotten, and with them the work that they had ahead of others. Otherwise
        memory would grow with every new client.
        """
        if not self._keys:
            self._flows.clear()
            self._order.clear()
            self._now = 0.0
            return
        most = _SLACK + 2 * len(self._keys)
        if len(self._flows) > most:
            self._flows = {key: flow for key, flow in self._flows.items() if flow.waiting}
        if len(self._order) > most:
            self._order = [entry for entry in self._order if self._is_valid(entry)]
            heapify(self._order)


def work_of(request: Request) -> int:
    """What a request costs, near enough to compare: source tokens times rows."""
    return len(request.source) * request.options.num_rows


def _cost_of(request: Request) -> float:
    return work_of(request) / WEIGHTS[request.priority]
