"""DeepL's interface: its routes."""

from __future__ import annotations

import time

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import NoLanguagePair
from dragoman_service.interfaces.deepl import documents, mapping
from dragoman_service.interfaces.fields import renamed_fields
from dragoman_service.interfaces.names import DEEPL
from dragoman_service.interfaces.values import text_of
from dragoman_service.server.http import deepl_glossaries
from dragoman_service.server.http.documents.job import Job, State
from dragoman_service.server.http.documents.routes import begin, file_of, take
from dragoman_service.server.http.endpoint import Answer, HttpCall, HttpInterface, Route
from dragoman_service.server.http.failure import Failure

_KEY_FIELD = "auth_key"
_STATUSES = {
    State.QUEUED: documents.QUEUED,
    State.RUNNING: documents.TRANSLATING,
    State.DONE: documents.DONE,
    State.FAILED: documents.ERROR,
}


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


async def _upload(call: HttpCall) -> Answer:
    upload = await take(call, _KEY_FIELD)
    template = documents.template_of(upload.fields, upload.name)
    try:
        with renamed_fields(mapping.FIELDS):
            job = await begin(call, upload, template)
    except NoLanguagePair:
        raise mapping.refusal_of(template, await _models(call)) from None
    return Answer({"document_id": job.id, "document_key": job.key})


async def _job(call: HttpCall) -> Job:
    key = text_of(await call.fields(), "document_key")
    return call.service.documents.find_by_key(call.context.path_values["id"], key)


async def _status(call: HttpCall) -> Answer:
    job = await _job(call)
    said = documents.status_of(
        job.id,
        _STATUSES[job.state],
        done=job.texts_done,
        texts=job.texts,
        seconds=time.time() - job.created,
        characters=job.characters,
        error=job.error,
    )
    return Answer(said)


async def _result(call: HttpCall) -> Answer:
    job = await _job(call)
    if not job.state.is_final:
        return Answer({"message": "Document translation is not done"}, 503)
    return await file_of(call, job)


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
        Route(("/v2/document",), "CreateDocument", _upload, has_body=False, takes_body=True),
        Route(("/v2/document/{id}",), "GetDocument", _status, ("GET", "POST")),
        Route(("/v2/document/{id}/result",), "GetDocumentContent", _result, ("GET", "POST")),
        Route(("/v2/usage",), "GetUsage", _usage, ("GET", "POST")),
        *deepl_glossaries.ROUTES,
    ),
    fail=_fail,
    key_field=_KEY_FIELD,
)
