"""Google Translation over HTTP: v2, and v3 in the JSON mapping of its messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.longrunning import operations_pb2
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from dragoman_protos.google import translation_v3_pb2 as v3
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.interfaces.google import v2
from dragoman_service.interfaces.google.common import errors_of
from dragoman_service.interfaces.google.servicer import GoogleServicer, OperationRequest
from dragoman_service.interfaces.names import GOOGLE
from dragoman_service.server.http.endpoint import Answer, HttpCall, HttpInterface, Route
from dragoman_service.server.http.failure import Failure
from dragoman_service.server.http.fields import Fields, json_object
from dragoman_service.server.http.messages import message_of

_KEY = "key"
_SYSTEM = ("access_token", "alt", "callback", "fields", _KEY, "oauth_token", "prettyPrint", "quotaUser")
"""Parameters of all methods of Google, beside those that begin with `$`. They change the form of the answer."""
_METHODS = v3.DESCRIPTOR.services_by_name["TranslationService"].methods_by_name
_REASONS = {400: "invalid", 401: "required", 403: "forbidden", 404: "notFound", 429: "rateLimitExceeded"}


async def _translate(call: HttpCall) -> Answer:
    fields = await call.fields()
    with errors_of(v2.TRANSLATION_FIELDS, "target"):
        reply = await call.backend.translation.Translate(v2.translation_of(fields), call.answering)
    return Answer(v2.translated(fields, reply))


async def _detect(call: HttpCall) -> Answer:
    request = v2.detection_of(await call.fields())
    with errors_of(v2.DETECTION_FIELDS, "q"):
        return Answer(v2.detected(await call.backend.translation.DetectLanguage(request, call.answering)))


async def _languages(call: HttpCall) -> Answer:
    reply = await call.backend.translation.ListModels(pb.ListModelsRequest(), call.answering)
    return Answer(v2.languages(await call.fields(), reply.models))


Resource = Callable[[Fields], Fields]
"""The fields of a request that its path has."""


def _v3_route(method: str, path: str, resource: Resource, verb: str = "POST", body: str = "") -> Route:
    """A route of v3.

    Args:
        method: Of the service.
        path: See `Route`.
        resource: Gives the fields of the request that the path has.
        verb: See `Route`.
        body: The field of the request that the body has, with the others in the query; empty: the body has all.
    """
    kind = GetMessageClass(_METHODS[method].input_type)

    async def handle(call: HttpCall) -> Answer:
        request = message_of(await _request_of(call, resource, body), kind, call.repeated)
        reply: Any = await getattr(GoogleServicer(call.backend), method)(request, call.answering)
        return Answer(json_format.MessageToDict(reply))

    return Route((path,), method, handle, (verb,), has_body=verb in ("POST", "PATCH"))


async def _request_of(call: HttpCall, resource: Resource, body: str) -> Fields:
    """The request as JSON."""
    sent = await call.query_fields() if body else await call.fields()
    fields = {name: it for name, it in sent.items() if name not in _SYSTEM and not name.startswith("$")}
    if body:
        fields[body] = json_object(call.body)
    named = resource(dict(call.context.path_values))
    return {**fields, **{name: fields[name] | it if name == body else it for name, it in named.items()}}


def _operation_route(method: str, kind: type[OperationRequest], path: str, verb: str) -> Route:
    """A route of `google.longrunning.Operations`."""

    async def handle(call: HttpCall) -> Answer:
        request = message_of(await _request_of(call, _operation_name, ""), kind, call.repeated)
        reply = await GoogleServicer(call.backend).operation(request, call.answering)
        return Answer(json_format.MessageToDict(reply))

    return Route((path,), method, handle, (verb,), has_body=verb == "POST")


def _parent(values: Fields) -> Fields:
    location = f"/locations/{values['location']}" if "location" in values else ""
    return {"parent": f"projects/{values['project']}{location}"}


def _glossary(values: Fields) -> str:
    return f"{_parent(values)['parent']}/glossaries/{values['glossary']}"


def _entry(values: Fields) -> str:
    return f"{_glossary(values)}/glossaryEntries/{values['entry']}"


def _name(values: Fields) -> Fields:
    return {"name": _glossary(values)}


def _operation_name(values: Fields) -> Fields:
    return {"name": f"{_parent(values)['parent']}/operations/{values['operation']}"}


def _glossary_parent(values: Fields) -> Fields:
    return {"parent": _glossary(values)}


def _entry_name(values: Fields) -> Fields:
    return {"name": _entry(values)}


def _in_glossary(values: Fields) -> Fields:
    return {"glossary": _name(values)}


def _in_entry(values: Fields) -> Fields:
    return {_ENTRY_FIELD: _entry_name(values)}


_PROJECT = "/v3/projects/{project}"
_LOCATION = f"{_PROJECT}/locations/{{location}}"
_GLOSSARIES = f"{_LOCATION}/glossaries"
_GLOSSARY = f"{_GLOSSARIES}/{{glossary}}"
_ENTRIES = f"{_GLOSSARY}/glossaryEntries"
_ENTRY = f"{_ENTRIES}/{{entry}}"
_ENTRY_FIELD = "glossary_entry"
_OPERATION = f"{_LOCATION}/operations/{{operation}}"


def _fail_v3(failure: Failure) -> Answer:
    status = failure.http_status
    error = {**failure.content, "code": status, "status": failure.code.name}
    return Answer({"error": error}, status)


def _fail_v2(failure: Failure) -> Answer:
    answer = _fail_v3(failure)
    reason = {"message": failure.message, "domain": "global", "reason": _REASONS.get(answer.status, "backendError")}
    assert isinstance(answer.content, dict)
    return Answer({"error": {**answer.content["error"], "errors": [reason]}}, answer.status)


V2 = HttpInterface(
    name=GOOGLE,
    api="google_v2",
    routes=(
        Route(("/language/translate/v2",), "Translate", _translate, ("POST", "GET")),
        Route(("/language/translate/v2/detect",), "DetectLanguage", _detect, ("POST", "GET")),
        Route(("/language/translate/v2/languages",), "ListModels", _languages, ("GET", "POST")),
    ),
    fail=_fail_v2,
    key_field=_KEY,
)
V3 = HttpInterface(
    name=GOOGLE,
    api="google_v3_rest",
    routes=(
        *(_v3_route("TranslateText", f"{parent}:translateText", _parent) for parent in (_PROJECT, _LOCATION)),
        *(_v3_route("DetectLanguage", f"{parent}:detectLanguage", _parent) for parent in (_PROJECT, _LOCATION)),
        *(
            _v3_route("GetSupportedLanguages", f"{parent}/supportedLanguages", _parent, "GET")
            for parent in (_PROJECT, _LOCATION)
        ),
        _v3_route("ListGlossaries", _GLOSSARIES, _parent, "GET"),
        _v3_route("CreateGlossary", _GLOSSARIES, _parent, "POST", body="glossary"),
        _v3_route("GetGlossary", _GLOSSARY, _name, "GET"),
        _v3_route("UpdateGlossary", _GLOSSARY, _in_glossary, "PATCH", body="glossary"),
        _v3_route("DeleteGlossary", _GLOSSARY, _name, "DELETE"),
        _v3_route("ListGlossaryEntries", _ENTRIES, _glossary_parent, "GET"),
        _v3_route("CreateGlossaryEntry", _ENTRIES, _glossary_parent, "POST", body=_ENTRY_FIELD),
        _v3_route("GetGlossaryEntry", _ENTRY, _entry_name, "GET"),
        _v3_route("UpdateGlossaryEntry", _ENTRY, _in_entry, "PATCH", body=_ENTRY_FIELD),
        _v3_route("DeleteGlossaryEntry", _ENTRY, _entry_name, "DELETE"),
        _operation_route("GetOperation", operations_pb2.GetOperationRequest, _OPERATION, "GET"),
        _operation_route("WaitOperation", operations_pb2.WaitOperationRequest, f"{_OPERATION}:wait", "POST"),
    ),
    fail=_fail_v3,
    key_field=_KEY,
)
