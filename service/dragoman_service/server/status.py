"""The table from the service's errors to gRPC status codes, and the error details of google.rpc."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from dragoman_service import errors

DOMAIN = "dragoman"

_CODES: tuple[tuple[type[errors.DragomanError], grpc.StatusCode], ...] = (
    (errors.InvalidInput, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.Forbidden, grpc.StatusCode.PERMISSION_DENIED),
    (errors.Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.Cancelled, grpc.StatusCode.CANCELLED),
    (errors.ShuttingDown, grpc.StatusCode.UNAVAILABLE),
    (errors.Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.RepositoryError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Unserved, grpc.StatusCode.UNIMPLEMENTED),
    (errors.EngineLost, grpc.StatusCode.UNAVAILABLE),
    (errors.EngineFailure, grpc.StatusCode.INTERNAL),
)
_LONGEST_MESSAGE = 2_000
"""Most characters of a message: the status is sent in HTTP/2 headers, for which clients have a limit of 8 KiB."""


@dataclass(frozen=True, slots=True)
class CallStatus:
    """The status of a failed call, as it is sent."""

    code: grpc.StatusCode
    message: str
    reason: str
    """Reason of the error, which is the label in metrics."""
    details: bytes
    """A serialised `google.rpc.Status`."""


def status_of(error: BaseException, request_id: str) -> CallStatus:
    """Convert an error. For an internal error the caller gets only the request id; the log has the rest."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    reason = error.reason if isinstance(error, errors.DragomanError) else "internal"
    message = str(error)[:_LONGEST_MESSAGE]
    if code is grpc.StatusCode.INTERNAL:
        message = f"internal error; the server's log has it under request id {request_id}"
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in _details(error, reason, message):
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    return CallStatus(code, message, reason, status.SerializeToString())


def _details(error: BaseException, reason: str, message: str) -> Iterator[Message]:
    yield error_details_pb2.ErrorInfo(reason=reason.upper(), domain=DOMAIN)
    if isinstance(error, errors.InvalidInput):
        violation = error_details_pb2.BadRequest.FieldViolation(field=error.field, description=message)
        yield error_details_pb2.BadRequest(field_violations=[violation])
    if isinstance(error, errors.Overloaded):
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(round(error.retry_after * 1e9))
        yield error_details_pb2.RetryInfo(retry_delay=delay)
