from __future__ import annotations

import asyncio
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.errors import DeadlineExceeded
from dragoman_service.server.call_lifecycle import Answering
from dragoman_service.server.metrics import Metrics


class EndedContext:
    """A call that gRPC has ended: its status can no longer be sent."""

    def __init__(self, timeout: float | None = None) -> None:
        self.timeout = timeout

    def time_remaining(self) -> float | None:
        return self.timeout

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


@pytest.mark.parametrize(
    ("timeout", "reason"),
    [(None, "cancelled"), (60, "cancelled"), (0.01, "deadline_exceeded"), (0, "deadline_exceeded")],
)
def test_a_call_that_was_cancelled_at_its_deadline_was_not_given_up_before(timeout: float | None, reason: str) -> None:
    registry = CollectorRegistry()

    async def answer() -> None:
        context: Any = EndedContext(timeout)
        async with Answering(Metrics(registry), "Translate", context):
            context.timeout = 0  # the clock on the wall is set
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answer())
    assert registry.get_sample_value("dragoman_cancellations_total", {"reason": reason}) == 1


class Panic(BaseException):
    """As Rust code raises it through Python: not an Exception."""


class Aborted(Exception):
    """What ends a handler whose call was given a status."""


class OpenContext(EndedContext):
    def __init__(self) -> None:
        super().__init__()
        self.codes: list[str] = []

    async def abort(self, code: Any, *rest: Any) -> None:
        self.codes.append(code.name)
        raise Aborted


def test_a_panic_does_not_leave_the_caller_waiting_and_is_not_counted_as_an_answer() -> None:
    registry = CollectorRegistry()
    context: Any = OpenContext()

    async def answer() -> None:
        async with Answering(Metrics(registry), "Translate", context):
            raise Panic

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answer())
    assert context.codes == ["INTERNAL"]
    assert registry.get_sample_value("dragoman_requests_total", {"method": "Translate", "code": "INTERNAL"}) == 1
