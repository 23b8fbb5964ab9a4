"""Requests of several clients in a fair queue; work is counted in source tokens times rows, as the queue does."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_service.engine.batch import Waiting
from dragoman_service.engine.fair_queue import FairQueue
from dragoman_service.engine.request import DecodingOptions, Priority, Request

Flow = tuple[str, Priority]

INTERACTIVE, BATCH = Priority.INTERACTIVE, Priority.BATCH


def request(
    request_id: int, client: str = "", *, tokens: int = 10, rows: int = 1, priority: Priority = INTERACTIVE
) -> Request:
    """One of a client, of so much work."""
    return Request(request_id, (4,) * tokens, 20, DecodingOptions(beam_size=rows), client=client, priority=priority)


def queue_of(requests: Iterable[Request]) -> FairQueue:
    """A queue in which these wait."""
    queue = FairQueue()
    for it in requests:
        queue.push(Waiting(it, 0.0))
    return queue


def serve(queue: FairQueue) -> Request:
    """Take the next one out."""
    head = queue.head()
    assert head is not None
    queue.pop()
    return head.request


def flow_of(it: Request) -> Flow:
    """Whose it is."""
    return it.client, it.priority
