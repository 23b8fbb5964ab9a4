"""Fair queueing: the order in which waiting requests join the running batch.

Waiting requests are grouped into flows, one per client and priority. Active flows share decoding work in proportion to
their weights.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from dragoman_service.engine.active_request import Waiting
from dragoman_service.engine.request import Priority, Request

WEIGHTS = {Priority.INTERACTIVE: 16.0, Priority.BATCH: 1.0}
"""Weight of a flow by its priority. Batch flows have a weight above 0, so that no request waits for ever."""

_SLACK = 64
"""Entries and flows that may be kept beside two for each waiting request."""

_Key = tuple[str, Priority]
_Entry = tuple[float, int, int, _Key]
"""Virtual start time of a flow's first request, serial number of that request, number of the entry, the flow."""


@dataclass(slots=True)
class _Flow:
    """One client's requests of one priority."""

    waiting: dict[int, tuple[int, Waiting]] = field(default_factory=dict)
    """Request id -> serial number and request, in the order of arrival."""
    start: float = 0.0
    """Virtual start time of the first waiting request; if none waits, the earliest start of the next one."""
    turn: int = 0
    """Number of the valid entry of this flow in `_order`."""


class FairQueue:
    """Start-time fair queueing (Goyal, Vin and Cheng, 1996). A flow is one client's requests of one priority.

    The work of a request is its decoder steps times its rows. Until it ends, its source tokens stand for its steps.
    Every request has a start in virtual time: the virtual end of the previous request of its flow, or the virtual time
    at its arrival, whichever is later. Its virtual end is its start plus its work divided by the weight of its flow.
    The request with the smallest start is served next, and virtual time advances to that start. So flows share the work
    by their weights, whatever their numbers of requests. Requests of one flow are served in the order of arrival. A
    request that is removed is not charged to its flow.
    """

    def __init__(self) -> None:
        self._keys: dict[int, _Key] = {}
        """Request id -> flow, for all waiting requests."""
        self._flows: dict[_Key, _Flow] = {}
        self._order: list[_Entry] = []
        """A heap with a valid entry for each flow that has waiting requests, and outdated entries: see `_is_valid`."""
        self._now = 0.0
        self._serial = 0
        self._entries = 0

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._keys

    @property
    def num_flows(self) -> int:
        """Number of flows, with some that have no waiting requests."""
        return len(self._flows)

    def __iter__(self) -> Iterator[Waiting]:
        """Waiting requests in the order in which they are served if no other request arrives."""
        return self.of_flows(lambda head: True)

    def of_flows(self, wanted: Callable[[Waiting], bool]) -> Iterator[Waiting]:
        """Waiting requests, in that order, of the flows whose first request is wanted.

        The first k take a time that depends on k: a scheduler looks at some in every step, and thousands may wait.
        """
        heads = (entry for entry in self._entries_in_order() if wanted(self._first(entry[3])))
        head = next(heads, None)
        order: list[tuple[_Entry, Waiting, Iterator[tuple[int, Waiting]]]] = []
        while head is not None or order:
            while head is not None and (not order or head < order[0][0]):
                queue = iter(self._flows[head[3]].waiting.values())
                heappush(order, (head, next(queue)[1], queue))
                head = next(heads, None)
            (start, _, turn, key), waiting, queue = heappop(order)
            following = next(queue, None)
            if following is not None:
                serial, request = following
                heappush(order, ((start + _cost_of(waiting.request), serial, turn, key), request, queue))
            yield waiting

    def _entries_in_order(self) -> Iterator[_Entry]:
        """The valid entries, smallest first. The children of an entry of the heap are looked at after it."""
        order = [(self._order[0], 0)] if self._order else []
        while order:
            entry, at = heappop(order)
            for child in range(2 * at + 1, min(2 * at + 3, len(self._order))):
                heappush(order, (self._order[child], child))
            if self._is_valid(entry):
                yield entry

    def sources(self, max_tokens: int) -> tuple[tuple[int, ...], ...]:
        """The sources of the next requests, with at most `max_tokens` tokens together."""
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

    def push_front(self, waiting: Waiting) -> None:
        """Add a request before all others of its flow."""
        request = waiting.request
        key = (request.client, request.priority)
        self._serial += 1
        self._keys[request.id] = key
        flow = self._flows.setdefault(key, _Flow())
        flow.waiting = {request.id: (self._serial, waiting), **flow.waiting}
        if len(flow.waiting) == 1:
            self._enter(key, flow, max(self._now, flow.start))

    def head(self) -> Waiting | None:
        """The next request; None if none waits."""
        key = self._head_key()
        return None if key is None else self._first(key)

    def heads(self) -> Iterator[Waiting]:
        """The first request of every flow, in the order of the flows."""
        return (self._first(entry[3]) for entry in self._entries_in_order())

    def _first(self, key: _Key) -> Waiting:
        return next(iter(self._flows[key].waiting.values()))[1]

    def _head_key(self) -> _Key | None:
        while self._order:
            if self._is_valid(self._order[0]):
                return self._order[0][3]
            heappop(self._order)
        return None

    def get(self, request_id: int) -> Waiting | None:
        """The waiting request with this id; None if there is none."""
        key = self._keys.get(request_id)
        return None if key is None else self._flows[key].waiting[request_id][1]

    def serve(self, request_id: int) -> None:
        """Remove a request because it is served, and charge its work to its flow. It need not be the head."""
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

    def charge(self, request: Request, steps: int) -> None:
        """Correct the charge for a request that was served, once its number of steps is known.

        A flow that is forgotten in the meantime is not charged.
        """
        flow = self._flows.get((request.client, request.priority))
        if flow is None:
            return
        change = (steps - len(request.source)) * request.options.num_rows / WEIGHTS[request.priority]
        if flow.waiting:
            self._enter((request.client, request.priority), flow, max(0.0, flow.start + change))
        else:
            flow.start = max(0.0, flow.start + change)

    def remove(self, request_id: int) -> bool:
        """Remove a request that is not going to be served; returns whether it was waiting."""
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
        """Bound the memory of flows and entries by the number of waiting requests.

        Flows without waiting requests are dropped, and the work charged to them is forgotten. Otherwise memory would
        grow with every new client.
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
    """Work of a request, an approximate measure of its decoding cost: source tokens times rows."""
    return len(request.source) * request.options.num_rows


def _cost_of(request: Request) -> float:
    return work_of(request) / WEIGHTS[request.priority]
