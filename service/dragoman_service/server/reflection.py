"""Reflection, by which tools such as grpcurl ask a server for its interface: `grpc.reflection.v1` and `v1alpha`.

The two versions have the same messages under other names, with the same bytes. The library has `v1alpha` alone, and new
tools ask for `v1` first.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from dragoman_service.errors import DragomanError
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.metrics import Metrics

V1ALPHA_NAME = reflection.SERVICE_NAME
V1_NAME = V1ALPHA_NAME.replace(".v1alpha.", ".v1.")
_V1_FILE = "grpc/reflection/v1/reflection.proto"
_METHOD = "ServerReflectionInfo"


def add_reflection(
    server: grpc.aio.Server,
    services: Iterable[str],
    metrics: Metrics,
    check: Callable[[Context], None] | None = None,
) -> None:
    """Let a server describe these services, and reflection itself.

    `check` raises for a caller who may not ask. It is called at every question, because a caller may keep its call open
    for ever. None: everyone may.
    """
    _declare_v1()
    servicer = reflection.aio.ReflectionServicer((*services, V1ALPHA_NAME, V1_NAME))

    async def checked(questions: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async for question in questions:
            if check is not None:
                check(context)
            yield question

    async def answer(questions: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        try:
            if check is not None:
                check(context)
            replies: Any = servicer.ServerReflectionInfo(checked(questions, context), context)
            async for reply in replies:
                yield reply
        except DragomanError as error:
            async with Answering(metrics, _METHOD, context):
                raise error from None

    handler = grpc.stream_stream_rpc_method_handler(
        answer,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1ALPHA_NAME, V1_NAME):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, {_METHOD: handler}),))


def _declare_v1() -> None:
    """Make the descriptors of `v1` from those of `v1alpha`, so that reflection can describe itself."""
    pool = descriptor_pool.Default()
    try:
        pool.FindServiceByName(V1_NAME)
    except KeyError:
        file = descriptor_pb2.FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
        file.name, file.package = _V1_FILE, V1_NAME.rpartition(".")[0]
        for message in file.message_type:
            for field in message.field:
                if field.type_name:  # numbers and texts have none, and may not have an empty one either
                    field.type_name = _renamed(field.type_name)
        for service in file.service:
            for method in service.method:
                method.input_type, method.output_type = _renamed(method.input_type), _renamed(method.output_type)
        pool.AddSerializedFile(file.SerializeToString())


def _renamed(type_name: str) -> str:
    return type_name.replace(".grpc.reflection.v1alpha.", ".grpc.reflection.v1.")
