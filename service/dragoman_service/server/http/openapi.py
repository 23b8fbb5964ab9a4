"""The OpenAPI description of `dragoman.v1` over HTTP, made of the descriptors of its messages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, MethodDescriptor
from google.rpc import status_pb2

from dragoman_protos.v1 import glossaries_pb2, translation_pb2

_Schema = dict[str, Any]

_SCALARS: dict[int, _Schema] = {
    FieldDescriptor.TYPE_STRING: {"type": "string"},
    FieldDescriptor.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.TYPE_INT32: {"type": "integer", "format": "int32"},
    # As a number of JSON, it would lose digits in JavaScript.
    FieldDescriptor.TYPE_UINT64: {"type": "string", "format": "uint64"},
    FieldDescriptor.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptor.TYPE_DOUBLE: {"type": "number", "format": "double"},
}
_METHODS: dict[str, MethodDescriptor] = {
    method.name: method
    for file in (translation_pb2.DESCRIPTOR, glossaries_pb2.DESCRIPTOR)
    for service in file.services_by_name.values()
    for method in service.methods
}


@dataclass(frozen=True, slots=True)
class Operation:
    """A method of `dragoman.v1` over HTTP."""

    name: str
    path: str
    verb: str = "POST"
    streams: bool = False
    """Whether it answers with server-sent events."""

    @property
    def rpc(self) -> MethodDescriptor:
        """The method."""
        return _METHODS[self.name]

    @property
    def has_body(self) -> bool:
        """Whether the fields of the request are in the body; else they are in path and query."""
        return self.verb in ("POST", "PUT")


def openapi(version: str, operations: Iterable[Operation]) -> _Schema:
    """The document, of OpenAPI 3.1. `version` is that of Dragoman."""
    schemas: dict[str, _Schema] = {"Status": _status()}
    paths: dict[str, _Schema] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.verb.lower()] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Dragoman",
            "version": version,
            "description": "dragoman.v1 as JSON; dragoman_protos/v1/translation.proto describes the fields.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
        "security": [{}, {"bearer": []}, {"key": []}],
    }


def _operation(method: Operation, schemas: dict[str, _Schema]) -> _Schema:
    rpc = method.rpc
    reply = _reference(rpc.output_type, schemas)
    media = "text/event-stream" if method.streams else "application/json"
    operation: _Schema = {
        "operationId": method.name,
        "responses": {
            "200": {
                "description": "Each event is such a message." if method.streams else "",
                "content": _of(media, reply),
            },
            "default": {"description": "The call failed.", "content": _of("application/json", _schema_of("Status"))},
        },
    }
    if method.has_body:
        operation["requestBody"] = {
            "required": True,
            "content": _of("application/json", _reference(rpc.input_type, schemas)),
        }
    else:
        operation["parameters"] = [
            {
                "name": field.name,
                "in": "path" if in_path else "query",
                "required": in_path,
                "schema": _field(field, schemas),
            }
            for field in rpc.input_type.fields
            for in_path in (f"{{{field.name}}}" in method.path,)
        ]
    return operation


def _of(media: str, schema: _Schema) -> _Schema:
    return {media: {"schema": schema}}


def _schema_of(name: str) -> _Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _reference(message: Descriptor, schemas: dict[str, _Schema]) -> _Schema:
    """A reference to the schema of a message, which is added with those of its fields."""
    if message.full_name == "google.protobuf.Timestamp":
        return {"type": "string", "format": "date-time"}
    name = _name(message)
    if name not in schemas:
        schemas[name] = {}  # a message may contain itself
        schemas[name] = {
            "type": "object",
            "properties": {field.json_name: _field(field, schemas) for field in message.fields},
        }
    return _schema_of(name)


def _field(field: FieldDescriptor, schemas: dict[str, _Schema]) -> _Schema:
    if field.message_type is not None:
        schema = _reference(field.message_type, schemas)
    elif field.enum_type is not None:
        schema = {"type": "string", "enum": _values(field.enum_type)}
    else:
        schema = _SCALARS[field.type]
    return {"type": "array", "items": schema} if field.is_repeated else schema


def _values(enum: EnumDescriptor) -> list[str]:
    return [value.name for value in enum.values]


def _name(message: Descriptor) -> str:
    return str(message.full_name).removeprefix(f"{translation_pb2.DESCRIPTOR.package}.")


def _status() -> _Schema:
    fields: Iterable[FieldDescriptor] = status_pb2.Status.DESCRIPTOR.fields
    simple = {field.json_name: _SCALARS[field.type] for field in fields if field.type in _SCALARS}
    details = {"type": "array", "items": {"type": "object", "properties": {"@type": {"type": "string"}}}}
    return {"type": "object", "properties": {**simple, "details": details}}
