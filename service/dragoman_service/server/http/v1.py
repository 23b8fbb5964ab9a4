"""`dragoman.v1` over HTTP: its messages in the JSON mapping of Protocol Buffers, and streams as server-sent events."""

from __future__ import annotations

import importlib.metadata

from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from dragoman_service.server.http.documents.openapi import PATHS as DOCUMENT_PATHS
from dragoman_service.server.http.documents.openapi import SCHEMAS as DOCUMENT_SCHEMAS
from dragoman_service.server.http.documents.routes import ROUTES as DOCUMENT_ROUTES
from dragoman_service.server.http.endpoint import Answer, HttpCall, HttpInterface, Page, Route, Service
from dragoman_service.server.http.failure import Failure
from dragoman_service.server.http.fields import json_object
from dragoman_service.server.http.messages import message_of
from dragoman_service.server.http.openapi import Operation, openapi

API = "http_v1"


_OPERATIONS = (
    Operation("Translate", "/v1/translate"),
    Operation("TranslateStream", "/v1/translate/stream", streams=True),
    Operation("DetectLanguage", "/v1/detect"),
    Operation("Score", "/v1/score"),
    Operation("ListModels", "/v1/models", verb="GET"),
    Operation("ListGlossaries", "/v1/glossaries", verb="GET"),
    Operation("CreateGlossary", "/v1/glossaries"),
    Operation("UpdateGlossary", "/v1/glossaries", verb="PUT"),
    Operation("GetGlossary", "/v1/glossaries/{name}", verb="GET"),
    Operation("DeleteGlossary", "/v1/glossaries/{name}", verb="DELETE"),
)


def _route(operation: Operation) -> Route:
    kind = GetMessageClass(operation.rpc.input_type)

    async def handle(call: HttpCall) -> Answer | None:
        given = json_object(call.body) if operation.has_body else {**await call.fields(), **call.context.path_values}
        request = message_of(given, kind, call.repeated)
        servicer = getattr(call.backend, operation.rpc.containing_service.name.lower())
        reply = await getattr(servicer, operation.name)(request, call.answering)
        return None if operation.streams else Answer(json_format.MessageToDict(reply))

    return Route((operation.path,), operation.name, handle, (operation.verb,), has_body=operation.has_body)


def _described(_: Service) -> Answer:
    described = openapi(importlib.metadata.version("dragoman"), _OPERATIONS)
    described["paths"].update(DOCUMENT_PATHS)
    described["components"]["schemas"].update(DOCUMENT_SCHEMAS)
    return Answer(described)


def _fail(failure: Failure) -> Answer:
    return Answer(failure.content, failure.http_status)


V1 = HttpInterface(
    name="",
    api=API,
    routes=[*(_route(operation) for operation in _OPERATIONS), *DOCUMENT_ROUTES],
    pages=(Page("/v1/openapi.json", _described),),
    fail=_fail,
)
