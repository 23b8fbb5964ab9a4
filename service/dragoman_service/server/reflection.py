"""Reflection, by which tools such as grpcurl ask a server for its interface: `grpc.reflection.v1` and `v1alpha`.

The two versions have the same messages under other names, with the same bytes. The library has `v1alpha` alone, and new
tools ask for `v1` first.
"""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

from dragoman_service.server.methods import ForeignMethods

V1ALPHA_NAME = reflection.SERVICE_NAME
V1_NAME = V1ALPHA_NAME.replace(".v1alpha.", ".v1.")
_V1_FILE = "grpc/reflection/v1/reflection.proto"


def add_reflection(methods: ForeignMethods, services: Iterable[str]) -> None:
    """Let a server describe these services, and reflection itself."""
    _declare_v1()
    servicer = reflection.aio.ReflectionServicer((*services, V1ALPHA_NAME, V1_NAME))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (V1ALPHA_NAME, V1_NAME):
        methods.add_registered_method_handlers(name, {"ServerReflectionInfo": handler})


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
