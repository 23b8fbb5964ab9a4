"""What the Python clients raise: one exception for each way in which a call can fail."""

from __future__ import annotations

from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from dragoman_service.status import DETAILS_KEY


class TranslationError(Exception):
    """A call failed; the base of the others."""

    def __init__(self, message: str, code: grpc.StatusCode, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        """The status code of gRPC."""
        self.request_id = request_id
        """Under which the server's log has the call, if the server got it."""


class InvalidRequest(TranslationError):
    """The server does not allow what was asked; the message says what it does."""

    field = ""
    """The field at fault, as translation.proto names it."""


class ModelNotFound(TranslationError):
    """No such model or language pair; the message lists what there is."""


class ServerOverloaded(TranslationError):
    """The server is full."""

    retry_after = 1.0
    """Seconds after which it is worth trying again."""


class DeadlinePassed(TranslationError):
    """The answer was not there in time."""


class CallCancelled(TranslationError):
    """The call was given up."""


class ServerUnavailable(TranslationError):
    """Nobody listens there, the server is shutting down, or the connection broke."""


class NotPossibleNow(TranslationError):
    """What is asked for contradicts what is there; the message says what has to be done first."""


class ServerFailure(TranslationError):
    """The server's fault."""


_KINDS: dict[grpc.StatusCode, type[TranslationError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ServerOverloaded,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlinePassed,
    grpc.StatusCode.CANCELLED: CallCancelled,
    grpc.StatusCode.UNAVAILABLE: ServerUnavailable,
    grpc.StatusCode.FAILED_PRECONDITION: NotPossibleNow,
}


def error_of(error: Any) -> TranslationError:
    """The exception for a failed call, given as `grpc.RpcError` or `grpc.aio.AioRpcError`."""
    metadata = dict(error.trailing_metadata() or ())
    code = error.code()
    kind = _KINDS.get(code, ServerFailure)
    made = kind(error.details() or code.name, code, str(metadata.get("x-request-id", "")))
    for detail in _details(metadata.get(DETAILS_KEY, b"")):
        if isinstance(made, InvalidRequest) and detail.Is(error_details_pb2.BadRequest.DESCRIPTOR):
            request = error_details_pb2.BadRequest.FromString(detail.value)
            made.field = request.field_violations[0].field if request.field_violations else ""
        if isinstance(made, ServerOverloaded) and detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
            made.retry_after = delay.seconds + delay.nanos / 1e9
    return made


def _details(packed: bytes) -> Any:
    try:
        return status_pb2.Status.FromString(packed).details
    except DecodeError:  # not from a Dragoman server
        return ()
