"""Helpers for tests of the fair queue: requests of several clients. Work is source tokens times rows."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_service.engine.active_request import Waiting
from dragoman_service.engine.fair_queue import FairQueue
from dragoman_service.engine.request import DecodingOptions, Priority, Request

Flow = tuple[str, Priority]

INTERACTIVE, BATCH = Priority.INTERACTIVE, Priority.BATCH


def request(
    request_id: int, client: str = "", *, tokens: int = 10, rows: int = 1, priority: Priority = INTERACTIVE
) -> Request:
    """Make a request of a client with `tokens` times `rows` work."""
    return Request(request_id, (4,) * tokens, 20, DecodingOptions(beam_size=rows), client=client, priority=priority)


def queue_of(requests: Iterable[Request]) -> FairQueue:
    """Make a queue in which these requests wait."""
    queue = FairQueue()
    for each in requests:
        queue.push(Waiting(each, 0.0))
    return queue


def serve(queue: FairQueue) -> Request:
    """Serve the next request and return it."""
    head = queue.head()
    assert head is not None
    queue.serve(head.request.id)
    return head.request


def flow_of(request: Request) -> Flow:
    """The flow of a request."""
    return request.client, request.priority
