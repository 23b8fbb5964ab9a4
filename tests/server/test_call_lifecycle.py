from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dragoman_protos.metadata import REQUEST_ID_KEY
from dragoman_service.errors import DeadlineExceeded, NotFound
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
        async with Answering(Metrics(registry), "dragoman_v1", "Translate", context):
            raise DeadlineExceeded("the deadline passed")

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answer())
    ended = {"api": "dragoman_v1", "method": "Translate", "code": "DEADLINE_EXCEEDED"}
    assert registry.get_sample_value("dragoman_requests_total", ended) == 1
    assert registry.get_sample_value("dragoman_requests_running", {"api": "dragoman_v1", "method": "Translate"}) == 0


@pytest.mark.parametrize(
    ("timeout", "reason"),
    [(None, "cancelled"), (60, "cancelled"), (0.01, "deadline_exceeded"), (0, "deadline_exceeded")],
)
def test_a_call_that_was_cancelled_at_its_deadline_was_not_given_up_before(timeout: float | None, reason: str) -> None:
    registry = CollectorRegistry()

    async def answer() -> None:
        context: Any = EndedContext(timeout)
        async with Answering(Metrics(registry), "dragoman_v1", "Translate", context):
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
        async with Answering(Metrics(registry), "dragoman_v1", "Translate", context):
            raise Panic

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answer())
    assert context.codes == ["INTERNAL"]
    assert (
        registry.get_sample_value(
            "dragoman_requests_total", {"api": "dragoman_v1", "method": "Translate", "code": "INTERNAL"}
        )
        == 1
    )


class NamedContext(OpenContext):
    """A call whose caller gave it an id."""

    def __init__(self, request_id: str) -> None:
        super().__init__()
        self.given = request_id
        self.sent = ""

    def invocation_metadata(self) -> Any:
        return ((REQUEST_ID_KEY, self.given),)

    def set_trailing_metadata(self, metadata: Any) -> None:
        ((_, self.sent),) = metadata


def failed(context: Any, error: Exception) -> None:
    async def answer() -> None:
        async with Answering(Metrics(CollectorRegistry()), "dragoman_v1", "Translate", context):
            raise error

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(answer())


def test_an_error_is_one_short_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    failed(NamedContext("id-7"), NotFound("no\nforged\x1b[2J\u202e " + "a" * 3_000_000))
    (line,) = caplog.messages
    assert line.startswith(r"dragoman_v1 Translate ended with NOT_FOUND, request id-7: no\nforged\x1b[2J\u202e aaa")
    assert len(line) < 540
    assert line.isprintable()


@pytest.mark.parametrize("given", ["a b", " ", "a\nb", "a\x1bb", "a\tb", "ä", "a\u202eb", "a" * 65, ""])
def test_an_id_that_is_no_word_is_replaced(given: str) -> None:
    context = NamedContext(given)
    failed(context, NotFound("x"))
    assert len(context.sent) == 32
    assert context.sent.isalnum()


@pytest.mark.parametrize("given", ["a", "a-b_c/1:2=~", "a" * 64])
def test_an_id_that_is_a_word_is_kept(given: str) -> None:
    context = NamedContext(given)
    failed(context, NotFound("x"))
    assert context.sent == given
