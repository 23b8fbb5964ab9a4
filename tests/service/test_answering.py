from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.answering import Answering
from dragoman_service.errors import DeadlineExceeded
from dragoman_service.metrics import Metrics


class EndedContext:
    """A call that gRPC has ended: its status can no longer be sent."""

    def invocation_metadata(self) -> None:
        return None

    def set_trailing_metadata(self, metadata: Any) -> None:
        pass

    async def abort(self, *status: Any) -> None:
        raise RuntimeError("the batch failed")


def test_an_error_of_a_call_that_is_over_ends_quietly_and_is_counted() -> None:
    registry = CollectorRegistry()

    async def answer() -> None:
        context: Any = EndedContext()
        async with Answering(Metrics(registry), "Translate", context):
            raise DeadlineExceeded("the deadline passed")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answer())
    ended = {"method": "Translate", "code": "DEADLINE_EXCEEDED"}
    assert registry.get_sample_value("dragoman_requests_total", ended) == 1
    assert registry.get_sample_value("dragoman_requests_running", {"method": "Translate"}) == 0
