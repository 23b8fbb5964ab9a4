"""Exceptions of the Python clients: one class for each way in which a call can fail."""

from __future__ import annotations

import re
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from dragoman_protos.metadata import DETAILS_KEY, REQUEST_ID_KEY


class TranslationError(Exception):
    """A failed call; base class of the other exceptions."""

    def __init__(self, message: str, code: grpc.StatusCode, request_id: str = "") -> None:
        super().__init__(message)
        self.code = code
        """The gRPC status code."""
        self.request_id = request_id
        """Id of the call in the server's log; empty if the server did not send one."""


class InvalidRequest(TranslationError):
    """The server does not allow a value of the request. The message says what it allows."""

    def __init__(self, message: str, code: grpc.StatusCode, request_id: str = "", *, field: str = "") -> None:
        super().__init__(message, code, request_id)
        self.field = field
        """Path of the invalid field, as in translation.proto: `texts[3]`, `options.beam_size`. Texts are counted from
        the first that was given to the client, in however many calls it sends them. `request`: the message as a whole.
        """

    @property
    def index(self) -> int | None:
        """Index of the text that is invalid, or whose prefix is; None: it is not a single one."""
        found = re.fullmatch(r"(?:texts|target_prefixes)\[(\d+)\]", self.field)
        return int(found[1]) if found else None

    def name_text(self, index: int) -> None:
        """Name the text of this index instead."""
        field = f"{'target_prefixes' if self.field.startswith('target_prefixes') else 'texts'}[{index}]"
        self.args = (f"{field}: " + str(self).removeprefix(f"{self.field}: "),)
        self.field = field


class ModelNotFound(TranslationError):
    """An unknown model or language pair. The message lists the available ones."""


class Unauthenticated(TranslationError):
    """The server needs a token, and the call had none, or one that is not valid (any more)."""


class Forbidden(TranslationError):
    """The token of the call does not allow it."""


class ServerOverloaded(TranslationError):
    """The server's queue is full, or a quota of the token is used up."""

    retry_after = 1.0
    """Seconds to wait before the next attempt."""


class DeadlinePassed(TranslationError):
    """The deadline of the call passed before the answer arrived."""


class CallCancelled(TranslationError):
    """The call was cancelled."""


class ServerUnavailable(TranslationError):
    """No server listens at the address, it is shutting down, or the connection broke."""


class NotPossibleNow(TranslationError):
    """A request that the server's present state does not allow. The message says what has to be done first."""


class ServerFailure(TranslationError):
    """Any other failure, which is a fault of the server."""


_KINDS: dict[grpc.StatusCode, type[TranslationError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
    grpc.StatusCode.NOT_FOUND: ModelNotFound,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: Forbidden,
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
    message = error.details() or code.name
    request_id = str(metadata.get(REQUEST_ID_KEY, ""))
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in message:  # gRPC's own limit of messages
        return InvalidRequest(f"request: {message}", code, request_id, field="request")
    made = kind(message, code, request_id)
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
