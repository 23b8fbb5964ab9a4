"""A failed call: its status in HTTP, and what an interface says of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

_Code = grpc.StatusCode
_STATUS: dict[grpc.StatusCode, int] = {
    _Code.OK: 200,
    _Code.CANCELLED: 499,
    _Code.UNKNOWN: 500,
    _Code.INVALID_ARGUMENT: 400,
    _Code.DEADLINE_EXCEEDED: 504,
    _Code.NOT_FOUND: 404,
    _Code.ALREADY_EXISTS: 409,
    _Code.PERMISSION_DENIED: 403,
    _Code.RESOURCE_EXHAUSTED: 429,
    _Code.FAILED_PRECONDITION: 400,
    _Code.ABORTED: 409,
    _Code.OUT_OF_RANGE: 400,
    _Code.UNIMPLEMENTED: 501,
    _Code.INTERNAL: 500,
    _Code.UNAVAILABLE: 503,
    _Code.DATA_LOSS: 500,
    _Code.UNAUTHENTICATED: 401,
}
"""Source: the comments of google/rpc/code.proto."""
_STATUS_OF_REASONS = {"TOO_LARGE": 413, "TOO_SLOW": 408}
"""Of errors for which HTTP has a status of its own."""
_CODES: dict[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}

_Detail = TypeVar("_Detail", bound=Message)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a call failed."""

    status: status_pb2.Status
    """The status that a caller of gRPC would get, with its details."""
    had_key: bool
    """Whether the caller sent a token."""

    @property
    def code(self) -> grpc.StatusCode:
        """The code of gRPC."""
        return _CODES[self.status.code]

    @property
    def is_cancelled(self) -> bool:
        """Whether the caller did not wait for the answer."""
        return self.code is grpc.StatusCode.CANCELLED

    @property
    def http_status(self) -> int:
        """The status of HTTP."""
        return _STATUS_OF_REASONS.get(self.reason) or _STATUS[self.code]

    @property
    def message(self) -> str:
        """For people."""
        return str(self.status.message)

    @property
    def reason(self) -> str:
        """The stable name of the error, such as QUOTA_EXCEEDED."""
        info = self._detail(error_details_pb2.ErrorInfo)
        return str(info.reason) if info else ""

    @property
    def field(self) -> str:
        """The field of the request of `dragoman.v1` that is not as it must be; empty if it is none."""
        bad = self._detail(error_details_pb2.BadRequest)
        return str(bad.field_violations[0].field) if bad and bad.field_violations else ""

    @property
    def content(self) -> dict[str, Any]:
        """The status as JSON: code, message and details."""
        return json_format.MessageToDict(self.status)

    @property
    def retry_seconds(self) -> float:
        """Seconds after which the same call may be made again, if it may."""
        retry = self._detail(error_details_pb2.RetryInfo)
        return retry.retry_delay.ToNanoseconds() / 1e9 if retry else 1.0

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Headers that belong to the status."""
        retry = self._detail(error_details_pb2.RetryInfo)
        headers = [("retry-after", str(math.ceil(retry.retry_delay.ToNanoseconds() / 1e9)))] if retry else []
        return [*headers, ("www-authenticate", "Bearer")] if self.http_status == 401 else headers

    def _detail(self, kind: type[_Detail]) -> _Detail | None:
        for packed in self.status.details:
            if packed.Is(kind.DESCRIPTOR):
                return kind.FromString(packed.value)
        return None
