"""DeepL's interface: its routes."""

from __future__ import annotations

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import NoLanguagePair
from dragoman_service.interfaces.deepl import mapping
from dragoman_service.interfaces.fields import renamed_fields
from dragoman_service.interfaces.names import DEEPL
from dragoman_service.server.http import deepl_glossaries
from dragoman_service.server.http.endpoint import Answer, HttpCall, HttpInterface, Route
from dragoman_service.server.http.failure import Failure


async def _models(call: HttpCall) -> list[pb.ModelInfo]:
    return list((await call.backend.translation.ListModels(pb.ListModelsRequest(), call.answering)).models)


async def _translate(call: HttpCall) -> Answer:
    request = mapping.translation_of(await call.fields())
    try:
        with renamed_fields(mapping.FIELDS):
            reply = await call.backend.translation.Translate(request, call.answering)
    except NoLanguagePair:
        raise mapping.refusal_of(request, await _models(call)) from None
    return Answer(mapping.translated(request, reply))


async def _languages(call: HttpCall) -> Answer:
    fields = await call.fields()
    return Answer(mapping.languages(fields, await _models(call)))


async def _usage(_: HttpCall) -> Answer:
    return Answer(mapping.usage())


def _fail(failure: Failure) -> Answer:
    # A quota of a token is full again within a minute, so it is not the one of DeepL's status 456.
    status = 403 if failure.code is grpc.StatusCode.UNAUTHENTICATED else failure.http_status
    return Answer({"message": failure.message}, status)


INTERFACE = HttpInterface(
    name=DEEPL,
    api="deepl",
    routes=(
        Route(("/v2/translate",), "Translate", _translate),
        Route(("/v2/languages",), "ListModels", _languages, ("GET", "POST")),
        Route(("/v2/usage",), "GetUsage", _usage, ("GET", "POST")),
        *deepl_glossaries.ROUTES,
    ),
    fail=_fail,
    key_field="auth_key",
)
