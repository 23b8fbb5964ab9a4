"""Around the answering of every call: its id, its metrics, and the status that its error becomes."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from types import TracebackType
from typing import Any

import grpc

from dragoman_protos.metadata import DETAILS_KEY, REQUEST_ID_KEY
from dragoman_service import errors
from dragoman_service.repository.models import ModelDescription
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.status import status_of

_LONGEST_REQUEST_ID = 64

# A caller's deadline passes there a little before it does here.
_ROUNDED = 0.01
"""By how much gRPC's core rounds a timeout up, at most, to send it in three digits."""
_LATENCY = 0.02
"""Between the caller and us, in seconds: the call arrives, and with it our deadline, later than it was made."""

Context = grpc.aio.ServicerContext[Any, Any]

_log = logging.getLogger(__name__)


class Answering:
    """A context manager: an error raised inside ends the call with its status, and every ending is counted once."""

    def __init__(self, metrics: Metrics, method: str, context: Context) -> None:
        self._metrics = metrics
        self._method = method
        self._context = context
        self._request_id = _request_id(context)
        self._start = time.monotonic()
        # Asked for once, because gRPC goes by the clock on the wall, which may be set while the call runs.
        self._allowed = context.time_remaining()
        self._running = metrics.requests_running.labels(method)
        self._chunk_sent = False

    def first_chunk(self, model: ModelDescription) -> None:
        """Note that a piece of text is about to be sent; only the first is counted."""
        if not self._chunk_sent:
            self._chunk_sent = True
            self._metrics.first_chunk_seconds.labels(model.name, model.version).observe(time.monotonic() - self._start)

    async def __aenter__(self) -> Answering:
        self._running.inc()
        self._context.set_trailing_metadata(((REQUEST_ID_KEY, self._request_id),))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            error = self._why_cancelled()
            self._end(status_of(error, self._request_id).code, error)
            return  # the call is over, and the cancellation goes on its way
        if error is None:
            self._end(grpc.StatusCode.OK, None)
            return
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return
        # Whatever else it is, a panic in Rust code for one, the caller must not be left waiting.
        status = status_of(error, self._request_id)
        self._end(status.code, error)
        metadata = ((DETAILS_KEY, status.details), (REQUEST_ID_KEY, self._request_id))
        try:
            await self._context.abort(status.code, status.message, metadata)
        except grpc.aio.AbortError:
            raise
        except Exception as gone:  # gRPC has ended the call while its status was on the way: nobody is left to tell
            raise asyncio.CancelledError from gone

    def _why_cancelled(self) -> errors.DragomanError:
        """gRPC cancels the handler alike when the caller goes away and when the deadline passes, here or there."""
        elapsed = time.monotonic() - self._start
        if self._allowed is not None and elapsed >= self._allowed * (1 - _ROUNDED) - _LATENCY:
            return errors.DeadlineExceeded("the deadline passed")
        return errors.Cancelled("the caller gave up")

    def _end(self, code: grpc.StatusCode, error: BaseException | None) -> None:
        self._running.dec()
        self._metrics.requests.labels(self._method, code.name).inc()
        self._metrics.request_seconds.labels(self._method).observe(time.monotonic() - self._start)
        if error is None:
            return
        reason = error.reason if isinstance(error, errors.DragomanError) else "internal"
        given_up = isinstance(error, (errors.Cancelled, errors.DeadlineExceeded))
        (self._metrics.cancellations if given_up else self._metrics.rejections).labels(reason).inc()
        if code is grpc.StatusCode.INTERNAL:
            _log.error("%s failed, request %s", self._method, self._request_id, exc_info=error)
        else:
            _log.info("%s ended with %s, request %s: %s", self._method, code.name, self._request_id, error)


def _request_id(context: Any) -> str:
    """The caller's id for the call, if it is a sensible one; else a new one."""
    for key, value in context.invocation_metadata() or ():
        if key == REQUEST_ID_KEY and value and len(value) <= _LONGEST_REQUEST_ID and _is_plain(str(value)):
            return str(value)
    return uuid.uuid4().hex


def _is_plain(value: str) -> bool:
    """Whether metadata can carry it back: gRPC fails a call whose trailing metadata are anything else."""
    return value.isascii() and value.isprintable()
