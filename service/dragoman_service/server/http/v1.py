"""`dragoman.v1` over HTTP: its messages in the JSON mapping of Protocol Buffers, and streams as server-sent events."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from dragoman_service.errors import InvalidInput
from dragoman_service.server.http.endpoint import Answer, HttpCall, HttpInterface, Page, Route, Service
from dragoman_service.server.http.failure import Failure
from dragoman_service.server.http.fields import Fields, json_object
from dragoman_service.server.http.openapi import Operation, openapi
from dragoman_service.server.methods import MAX_REPEATED

API = "http_v1"

_IN_FIELD = re.compile(r"Failed to parse (\w+) field: ")
_NO_FIELD = re.compile(r'has no field named "([^"]*)"')
"""In the messages of `json_format`: the way to the field, and one that there is not."""

T = TypeVar("T", bound=Message)


_OPERATIONS = (
    Operation("Translate", "/v1/translate"),
    Operation("TranslateStream", "/v1/translate/stream", streams=True),
    Operation("DetectLanguage", "/v1/detect"),
    Operation("Score", "/v1/score"),
    Operation("ListModels", "/v1/models", verb="GET"),
)


def _route(operation: Operation) -> Route:
    kind = GetMessageClass(operation.rpc.input_type)
    has_body = operation.verb == "POST"

    async def handle(call: HttpCall) -> Answer | None:
        request = message_of(json_object(call.body) if has_body else {}, kind, call.repeated)
        reply = await getattr(call.backend, operation.name)(request, call.answering)
        return None if operation.streams else Answer(json_format.MessageToDict(reply))

    return Route((operation.path,), operation.name, handle, verbs=(operation.verb,), has_body=has_body)


def message_of(fields: Fields, kind: type[T], most: Mapping[str, int]) -> T:
    """The message that an object of JSON describes.

    Args:
        fields: Names as in the .proto file, or in camel case.
        kind: The message.
        most: Maximum number of values of its repeated fields, by name.

    Raises:
        InvalidInput: it does not describe such a message, or has too many values.
    """
    for field in kind.DESCRIPTOR.fields:
        values = fields.get(field.json_name, fields.get(field.name))
        limit = most.get(field.name, MAX_REPEATED)
        if field.is_repeated and isinstance(values, list) and len(values) > limit:
            raise InvalidInput(field.name, f"more than {limit} values", f"at most {limit}")
    try:
        return json_format.ParseDict(fields, kind())
    except json_format.ParseError as error:
        message = str(error).partition("\n")[0]
        path = ".".join(_IN_FIELD.findall(message) + _NO_FIELD.findall(message))
        allowed = f"{kind.DESCRIPTOR.full_name} in the JSON mapping of Protocol Buffers; see /v1/openapi.json"
        raise InvalidInput(path or "request", _IN_FIELD.sub("", message).rstrip("."), allowed) from None


def _described(_: Service) -> Answer:
    return Answer(openapi(importlib.metadata.version("dragoman"), _OPERATIONS))


def _fail(failure: Failure) -> Answer:
    return Answer(failure.content, failure.http_status)


V1 = HttpInterface(
    name="",
    api=API,
    routes=[_route(operation) for operation in _OPERATIONS],
    pages=(Page("/v1/openapi.json", _described),),
    fail=_fail,
)
