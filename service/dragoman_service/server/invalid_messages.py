"""Handlers for requests whose bytes are not valid protobuf messages.

gRPC reports them as an internal error of the server. They are the caller's fault, so they get INVALID_ARGUMENT.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from dragoman_service.errors import InvalidInput
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.metrics import Metrics

_METHOD_PREFIX = "/dragoman."


class MalformedRequests(grpc.aio.ServerInterceptor):
    """Makes Dragoman's methods refuse bytes that protobuf cannot parse, with metrics and error details."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        """Wrap the handler of a method of Dragoman. Handlers of other services are unchanged."""
        handler: Any = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_METHOD_PREFIX):
            return handler
        method = handler_call_details.method.rpartition("/")[2]
        deserialize, kind = (
            handler.request_deserializer,
            "unary_stream" if handler.response_streaming else "unary_unary",
        )
        behaviour = getattr(handler, kind)

        def read(data: bytes) -> Any:
            try:
                return deserialize(data)
            except DecodeError as error:
                return error

        async def answer(request: Any, context: Context) -> Any:
            if isinstance(request, DecodeError):
                async with Answering(self._metrics, method, context):
                    raise InvalidInput("request", str(request), "a message as its .proto file describes it")
            return await behaviour(request, context)

        return handler._replace(request_deserializer=read, **{kind: answer})
