"""Registers the methods of servicers: what happens between the arrival of a call and the code that answers it.

Methods are registered with a stream of requests, which looks the same to callers as a single request. gRPC would read a
single request before it tells the handler of the call, and so before the caller could be refused.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import grpc
from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default
from google.protobuf.message import DecodeError

from dragoman_service.errors import DragomanError, InvalidInput, Unserved
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.intake import CallMemory, Intake
from dragoman_service.server.metrics import Metrics
from dragoman_service.server.wire_format import MessageLimits, check_message

Identify: TypeAlias = Callable[[Answering], None]
ClientOf: TypeAlias = Callable[[Context], str]

GRPC_API = "grpc"
"""Label of calls to gRPC's own services in metrics."""
_SMALL = MessageLimits({}, max_bytes=65_536)
"""Limits of the messages of health, reflection and administration."""
MAX_REPEATED = 100
"""Maximum number of values of a repeated field that no setting limits."""


class Methods:
    """Stands for a server where the generated code adds a servicer to it.

    A servicer's method gets the request and the `Answering` of its call. It raises errors of `dragoman_service.errors`.
    """

    def __init__(
        self,
        server: grpc.aio.Server,
        metrics: Metrics,
        api: str,
        intake: Intake,
        identify: Identify,
        limits: Mapping[str, int] | None = None,
    ) -> None:
        """Register methods on `server`.

        Args:
            server: Not started.
            metrics: Counts the calls.
            api: Label of the calls in metrics.
            intake: Limits the calls.
            identify: Sets the client of a call, and its caller if it has a token. Raises for a call that is refused.
            limits: Maximum number of values of repeated fields, by name. With None, the messages are small.
        """
        self._server = server
        self._metrics = metrics
        self._api = api
        self._intake = intake
        self._identify = identify
        self._limits = limits

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore the handlers: the same ones come by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service to the server."""
        inputs = {method.name: method.input_type for method in Default().FindServiceByName(service).methods}
        made = {method: self._handler(method, handler, inputs[method]) for method, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, made),))

    def add_unserved(self, service: str, reasons: Mapping[str, str]) -> None:
        """Refuse methods of a service, each with a sentence: gRPC would only say that it does not know them."""
        made = {method: self._refusing(method, reason) for method, reason in reasons.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, made),))

    def _refusing(self, method: str, reason: str) -> Any:
        async def answer(_: Any, context: Context) -> None:
            async with Answering(self._metrics, self._api, method, context) as call:
                self._identify(call)
                raise Unserved(f"{method}: {reason}")

        return grpc.stream_unary_rpc_method_handler(answer)

    def _handler(self, method: str, handler: Any, message: Descriptor) -> Any:
        parse, limits = handler.request_deserializer, self._message_limits(message)
        streams = handler.response_streaming
        behaviour: Callable[[Any, Answering], Awaitable[Any]] = handler.unary_stream if streams else handler.unary_unary

        async def answer(_: Any, context: Context) -> Any:
            async with Answering(self._metrics, self._api, method, context) as call:
                self._identify(call)
                call.memory = memory = self._intake.admit(call.client)
                data = await self._intake.read(context, memory)
                if data is None:
                    raise InvalidInput("request", "no message", "one message")
                return await behaviour(_parsed(data, parse, limits), call)

        make = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
        return make(answer, None, handler.response_serializer)

    def _message_limits(self, message: Descriptor) -> MessageLimits:
        limits = _limits_of(message, self._limits or {})
        return replace(limits, max_bytes=_SMALL.max_bytes) if self._limits is None else limits


def _limits_of(message: Descriptor, most: Mapping[str, int]) -> MessageLimits:
    repeated = {
        field.number: (field.name, most.get(field.name, MAX_REPEATED)) for field in message.fields if field.is_repeated
    }
    inner = ((field, _limits_of(field.message_type, most)) for field in message.fields if field.message_type)
    nested = {field.number: (field.name, its) for field, its in inner if its.repeated or its.nested}
    return MessageLimits(repeated, nested=nested)


class ForeignMethods:
    """As `Methods`, for servicers of gRPC's own packages, such as health, whose methods get the context of the call."""

    def __init__(self, server: grpc.aio.Server, metrics: Metrics, intake: Intake, client_of: ClientOf) -> None:
        """`client_of` raises for a call that is refused. It is asked at every request: a call may stay open."""
        self._server = server
        self._metrics = metrics
        self._intake = intake
        self._client_of = client_of

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """Ignore the handlers: the same ones come by name."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Add the methods of a service to the server."""
        made = {method: self._handler(method, handler) for method, handler in handlers.items()}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, made),))

    def _handler(self, method: str, handler: Any) -> Any:
        async def answer(_: Any, context: Context) -> Any:
            try:
                memory = self._intake.admit(self._client_of(context))
                requests = self._requests(context, memory, handler.request_deserializer)
                return await _answer(handler, requests, context)
            except DragomanError as error:
                async with Answering(self._metrics, GRPC_API, method, context):
                    raise error from None

        streams = handler.response_streaming
        make = grpc.stream_stream_rpc_method_handler if streams else grpc.stream_unary_rpc_method_handler
        return make(answer, None, handler.response_serializer)

    async def _requests(
        self, context: Context, memory: CallMemory, parse: Callable[[bytes], Any]
    ) -> AsyncGenerator[Any, None]:
        before = memory.amount
        while (data := await self._intake.read(context, memory)) is not None:
            self._client_of(context)
            yield _parsed(data, parse, _SMALL)
            memory.give_back(memory.amount - before)  # a call of reflection may send messages for ever


async def _answer(handler: Any, requests: AsyncGenerator[Any, None], context: Context) -> Any:
    """Call the behaviour of a handler. Returns its reply, or sends its replies."""
    if handler.request_streaming:
        async for reply in handler.stream_stream(requests, context):
            await context.write(reply)
        return None
    request = await anext(requests, None)
    if request is None:
        raise InvalidInput("request", "no message", "one message")
    return await (handler.unary_stream if handler.response_streaming else handler.unary_unary)(request, context)


def _parsed(data: bytes, parse: Callable[[bytes], Any], limits: MessageLimits) -> Any:
    """Check and parse a message. Raises InvalidInput."""
    check_message(data, limits)
    try:
        return parse(data)
    except DecodeError as error:
        raise InvalidInput("request", str(error), "a message as its .proto file describes it") from None
