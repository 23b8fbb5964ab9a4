"""`dragoman.v1` over HTTP: its messages in the JSON mapping of Protocol Buffers, and streams as server-sent events."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf import json_format
from google.protobuf.message import Message

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput
from dragoman_service.server.http.endpoint import Answer, HttpCall, HttpInterface, Route
from dragoman_service.server.http.failure import Failure
from dragoman_service.server.http.fields import Fields, json_object
from dragoman_service.server.methods import MAX_REPEATED

API = "http_v1"

_PLACE = re.compile(r'at "?\w+\.([\w.\[\]]+)')
"""Path of a field in a message of `json_format`."""

T = TypeVar("T", bound=Message)


@dataclass(frozen=True, slots=True)
class HttpMethod:
    """A method of `dragoman.v1.Translation` over HTTP."""

    name: str
    path: str
    request: type[Message]
    verb: str = "POST"
    streams: bool = False

    async def handle(self, call: HttpCall) -> Answer | None:
        """Answer a request."""
        fields = json_object(call.body) if self.verb == "POST" else {}
        request = message_of(fields, self.request, call.repeated)
        reply = await getattr(call.backend, self.name)(request, call.answering)
        return None if self.streams else Answer(json_format.MessageToDict(reply))


METHODS = (
    HttpMethod("Translate", "/v1/translate", pb.TranslateRequest),
    HttpMethod("TranslateStream", "/v1/translate/stream", pb.TranslateStreamRequest, streams=True),
    HttpMethod("DetectLanguage", "/v1/detect", pb.DetectLanguageRequest),
    HttpMethod("Score", "/v1/score", pb.ScoreRequest),
    HttpMethod("ListModels", "/v1/models", pb.ListModelsRequest, verb="GET"),
)


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
        place = _PLACE.search(str(error))
        field_path = place[1] if place else "request"
        allowed = f"{kind.DESCRIPTOR.full_name} in the JSON mapping of Protocol Buffers; see /v1/openapi.json"
        raise InvalidInput(field_path, str(error).partition("\n")[0], allowed) from None


def _fail(failure: Failure) -> Answer:
    return Answer(failure.content, failure.http_status)


V1 = HttpInterface(
    name="",
    api=API,
    routes=[Route((it.path,), it.name, it.handle, verbs=(it.verb,), has_body=it.verb == "POST") for it in METHODS],
    fail=_fail,
)
