"""LibreTranslate's interface: its routes."""

from __future__ import annotations

from typing import Any

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import NotFound
from dragoman_service.interfaces.libretranslate import mapping
from dragoman_service.interfaces.libretranslate.spec import SPEC
from dragoman_service.interfaces.names import LIBRETRANSLATE
from dragoman_service.interfaces.wording import Worded
from dragoman_service.server.http.documents.job import State
from dragoman_service.server.http.documents.routes import begin, file_of, take
from dragoman_service.server.http.endpoint import Answer, HttpCall, HttpInterface, Page, Route, Service
from dragoman_service.server.http.failure import Failure
from dragoman_service.server.http.fields import Fields
from dragoman_service.text.markup.documents import SUFFIXES

_KEY_FIELD = "api_key"
_LONGEST_WAIT = 600.0
"""Seconds that a caller may wait for the translation of a file."""


async def _fields(call: HttpCall) -> Fields:
    """The fields of a request. Browsers end the lines of a form with CRLF."""
    fields = await call.fields()
    return fields if call.is_json else {name: _unix_lines(value) for name, value in fields.items()}


def _unix_lines(value: Any) -> Any:
    if isinstance(value, list):
        return [_unix_lines(each) for each in value]
    return value.replace("\r\n", "\n") if isinstance(value, str) else value


async def _models(call: HttpCall) -> list[pb.ModelInfo]:
    return list((await call.backend.translation.ListModels(pb.ListModelsRequest(), call.answering)).models)


async def _translate(call: HttpCall) -> Answer:
    asked = mapping.translation_of(await _fields(call), call.limits.max_characters)
    translation = call.backend.translation
    try:
        reply = await translation.Translate(asked.request, call.answering)
    except NotFound:
        refusal = mapping.refusal_of(asked, await _models(call))
        if refusal is not None:
            raise refusal from None
        return Answer(mapping.unchanged(asked))
    missing = mapping.missing_detection(asked, reply)
    found = (await translation.DetectLanguage(missing, call.answering)).detections if missing else ()
    return Answer(mapping.reply_of(asked, reply, found))


async def _detect(call: HttpCall) -> Answer:
    request = mapping.detection_of(await _fields(call), call.limits.max_characters)
    return Answer(mapping.detected_of(await call.backend.translation.DetectLanguage(request, call.answering)))


async def _languages(call: HttpCall) -> Answer:
    return Answer(mapping.languages_of(await _models(call)))


async def _translate_file(call: HttpCall) -> Answer:
    upload = await take(call, _KEY_FIELD)
    fields = {name: _unix_lines(value) for name, value in upload.fields.items()}
    asked = mapping.translation_of({**fields, "q": " "}, call.limits.max_characters)
    asked.request.ClearField("texts")
    try:
        job = await begin(call, upload, asked.request)
    except NotFound:
        raise mapping.refusal_of(asked, await _models(call)) or _same_language() from None
    jobs = call.service.documents
    try:
        async with call.context.cancelled_when_gone():
            job = await jobs.wait(job, _LONGEST_WAIT)
    except BaseException:
        jobs.remove(job)
        raise
    if job.state is not State.DONE:
        jobs.remove(job)
        raise Worded("file", job.error or f"the translation takes longer than {_LONGEST_WAIT:g} s")
    return Answer({"translatedFileUrl": f"{call.context.origin}/download_file/{job.id}{job.suffix}"})


def _same_language() -> Worded:
    return Worded("target", "Invalid request: a file is not translated into its own language")


async def _download_file(call: HttpCall) -> Answer:
    # Whoever knows the address may have the file: browsers follow it without a key.
    name = call.context.path_values["name"].partition(".")[0]
    return await file_of(call, call.service.documents.find_by_id(name))


def _settings(service: Service) -> Answer:
    content = {
        "apiKeys": service.has_tokens,
        "charLimit": service.limits.max_characters,
        "filesTranslation": True,
        "frontendTimeout": 500,
        "keyRequired": service.has_tokens,
        "language": {
            "source": {"code": mapping.AUTO, "name": "Auto Detect"},
            "target": {"code": "en", "name": "English"},
        },
        "suggestions": False,
        "supportedFilesFormat": list(SUFFIXES),
    }
    return Answer(content)


def _health(service: Service) -> Answer:
    problem = service.problem()
    return Answer({"status": problem or "ok"}, 503 if problem else 200)


def _spec(_: Service) -> Answer:
    return Answer(SPEC)


def _suggest(_: Service) -> Answer:
    return Answer({"error": "Suggestions are disabled on this server."}, 403)


def _fail(failure: Failure) -> Answer:
    code = failure.code
    if code is grpc.StatusCode.UNAUTHENTICATED:
        text, status = ("Invalid API key", 403) if failure.had_key else ("This server needs an api_key", 400)
        return Answer({"error": text}, status)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Answer({"error": f"Slowdown: {failure.message}"}, failure.http_status)
    return Answer({"error": failure.message}, failure.http_status)


INTERFACE = HttpInterface(
    name=LIBRETRANSLATE,
    api="libretranslate",
    routes=(
        Route(("/translate",), "Translate", _translate),
        Route(("/detect",), "DetectLanguage", _detect),
        # Clients of Argos POST, and others send a body with GET. It has nothing to say.
        Route(("/translate_file",), "CreateDocument", _translate_file, has_body=False, takes_body=True),
        Route(
            ("/download_file/{name}",), "GetDocumentContent", _download_file, ("GET",), has_body=False, needs_key=False
        ),
        Route(("/languages",), "ListModels", _languages, verbs=("GET", "POST"), has_body=False),
    ),
    pages=(
        Page("/frontend/settings", _settings),
        Page("/health", _health),
        Page("/spec", _spec),
        Page("/suggest", _suggest, verb="POST"),
    ),
    fail=_fail,
    key_field=_KEY_FIELD,
    any_origin=True,
)
