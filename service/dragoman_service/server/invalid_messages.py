"""Handlers for requests whose bytes are not valid protobuf messages.

gRPC reports them as an internal error of the server. They are the caller's fault, so they get INVALID_ARGUMENT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from dragoman_service.errors import InvalidInput
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.metrics import Metrics


class CheckedMethods:
    """Stands for a server where the generated code adds a servicer to it.

    The methods that it adds to the server refuse bytes that protobuf cannot parse, with metrics and error details. An
    interceptor could do the same, but would be asked again for every call.
    """

    def __init__(
        self, server: grpc.aio.Server, metrics: Metrics, check: Callable[[Context], None] | None = None
    ) -> None:
        """`check` raises if the caller may not even hear that its message is invalid."""
        self._server = server
        self._metrics = metrics
        self._check = check

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore the handlers: the same ones come by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service to the server."""
        checked = {method: self._checked(method, handler) for method, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, checked),))

    def _checked(self, method: str, handler: Any) -> Any:
        deserialize = handler.request_deserializer
        kind = "unary_stream" if handler.response_streaming else "unary_unary"
        behaviour = getattr(handler, kind)

        def read(data: bytes) -> Any:
            try:
                return deserialize(data)
            except DecodeError as error:
                return error

        async def answer(request: Any, context: Context) -> Any:
            if isinstance(request, DecodeError):
                async with Answering(self._metrics, method, context):
                    if self._check is not None:
                        self._check(context)
                    raise InvalidInput("request", str(request), "a message as its .proto file describes it")
            return await behaviour(request, context)

        return handler._replace(request_deserializer=read, **{kind: answer})
