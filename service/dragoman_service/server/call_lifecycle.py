"""A call from its arrival to its end: who calls, request id, metrics, and the status of an error."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Container, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from types import TracebackType
from typing import Any, Never, Protocol

import grpc

from dragoman_protos.metadata import DETAILS_KEY, REQUEST_ID_KEY
from dragoman_service import errors
from dragoman_service.repository.models import ModelDescription
from dragoman_service.server.access.caller import Caller
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.status import status_of
from dragoman_service.translation.memory import UNLIMITED, Memory

_LONGEST_REQUEST_ID = 64
_LONGEST_LOG_LINE = 500

# The deadline passes at the caller a little before it passes at the server, for two reasons.
_TIMEOUT_ROUNDING = 0.01
"""Largest fraction by which gRPC's core rounds a timeout up, to send it in three digits."""
_ARRIVAL_DELAY = 0.02
"""Seconds between the start of a call at the caller and its arrival, from which the server counts the deadline."""

_NO_QUOTAS = nullcontext()


class Context(Protocol):
    """The caller's side of a call: what is used of a `grpc.aio.ServicerContext`. Calls over HTTP have their own."""

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Keys in lower case, and values."""
        ...

    def peer(self) -> str:
        """Address of the caller, such as `ipv4:192.0.2.7:51234`."""
        ...

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """What the caller's certificate says."""
        ...

    def time_remaining(self) -> float | None:
        """Seconds until the caller's deadline; None without one."""
        ...

    def set_trailing_metadata(self, trailing_metadata: tuple[tuple[str, str | bytes], ...], /) -> None:
        """What is sent after the answer."""
        ...

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: tuple[tuple[str, str | bytes], ...], /
    ) -> Never:
        """End the call with a status. Raises grpc.aio.AbortError."""
        ...

    async def write(self, message: Any, /) -> None:
        """Send a message of a stream."""
        ...


_log = logging.getLogger(__name__)


class Answering:
    """A context manager around a call. An error inside ends the call with its status. Every end is counted once."""

    def __init__(
        self,
        metrics: Metrics,
        api: str,
        method: str,
        context: Context,
        client: str = "",
        memory: Memory = UNLIMITED,
    ) -> None:
        """`api` and `method` are labels of metrics: see `metrics`."""
        self.context = context
        self.client = client
        """Name of the client."""
        self.memory = memory
        """Is told of the memory that the call takes."""
        self._metrics = metrics
        self._api, self._method = api, method
        self._request_id = _request_id(context)
        self._start = time.monotonic()
        # Read once, because gRPC uses the wall clock, which may be set while the call runs.
        self._allowed = context.time_remaining()
        self._running = metrics.requests_running.labels(api, method)
        self._chunk_sent = False
        self.caller: Caller | None = None
        """The holder of the call's token, once that is known; None where there are no tokens."""

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the deadline of the caller; None without one."""
        return None if self._allowed is None else self._allowed - (time.monotonic() - self._start)

    @property
    def allowed_models(self) -> Container[str] | None:
        """Names of the models that the caller may use; None: all."""
        return None if self.caller is None else self.caller.models

    def within_quotas(self, characters: int) -> AbstractAsyncContextManager[None]:
        """The context of a call of so many characters within the quotas of its token.

        Raises QuotaExceeded when it is entered.
        """
        return _NO_QUOTAS if self.caller is None else self.caller.admitted(characters)

    def first_chunk(self, model: ModelDescription) -> None:
        """Measure the time to the first piece of a stream. Call it before every piece; only the first one counts."""
        if not self._chunk_sent:
            self._chunk_sent = True
            self._metrics.first_chunk(model, time.monotonic() - self._start)

    async def __aenter__(self) -> Answering:
        self._running.inc()
        self.context.set_trailing_metadata(((REQUEST_ID_KEY, self._request_id),))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = self._why_cancelled()
            self._end(status_of(error, self._request_id).code, error)
            return  # the call is over, and the CancelledError propagates
        if error is None:
            self._end(grpc.StatusCode.OK, None)
            return
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return
        # Also for errors outside Exception, such as a panic in Rust code: the caller must not be left waiting.
        status = status_of(error, self._request_id)
        self._end(status.code, error)
        metadata = ((DETAILS_KEY, status.details), (REQUEST_ID_KEY, self._request_id))
        try:
            await self.context.abort(status.code, status.message, metadata)
        except grpc.aio.AbortError:
            raise
        except Exception as gone:  # gRPC ended the call before the status was sent, so there is no caller to inform
            raise asyncio.CancelledError from gone

    def _why_cancelled(self) -> errors.DragomanError:
        """Tell a passed deadline from a caller that left, by the elapsed time: gRPC cancels the handler for both."""
        elapsed = time.monotonic() - self._start
        if self._allowed is not None and elapsed >= self._allowed * (1 - _TIMEOUT_ROUNDING) - _ARRIVAL_DELAY:
            return errors.DeadlineExceeded("the deadline passed")
        return errors.Cancelled("the caller gave up")

    @property
    def _shown(self) -> str:
        shown = f"{self._api} {self._method}"
        return f"{shown} of {self.caller.name}" if self.caller else shown

    def _end(self, code: grpc.StatusCode, error: BaseException | None) -> None:
        self._running.dec()
        self._metrics.requests.labels(self._api, self._method, code.name).inc()
        self._metrics.request_seconds.labels(self._api, self._method).observe(time.monotonic() - self._start)
        if error is None:
            return
        reason = error.reason if isinstance(error, errors.DragomanError) else "internal"
        given_up = isinstance(error, (errors.Cancelled, errors.DeadlineExceeded))
        (self._metrics.cancellations if given_up else self._metrics.rejections).labels(reason).inc()
        if code is grpc.StatusCode.INTERNAL:
            _log.error("%s failed, request %s", self._shown, self._request_id, exc_info=error)
        elif _log.isEnabledFor(logging.INFO):
            line = f"{self._shown} ended with {code.name}, request {self._request_id}: {error}"
            _log.info("%s", errors.visible(line, _LONGEST_LOG_LINE))


def _request_id(context: Any) -> str:
    """The caller's id for the call if it is short printable ASCII without spaces, else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and value and len(value) <= _LONGEST_REQUEST_ID and _is_word(str(value)):
            return str(value)
    return f"{random.getrandbits(128):032x}"  # uuid4 reads from the system, for which it lets go of the interpreter


def _is_word(value: str) -> bool:
    """Whether trailing metadata can hold `value`, of which gRPC fails a call otherwise, and it is one word in a log."""
    return value.isascii() and value.isprintable() and " " not in value
