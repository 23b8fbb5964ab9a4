"""`/v1/documents`: documents that are translated in the background, and how far they are."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput
from dragoman_service.server.http.documents.job import Job, State
from dragoman_service.server.http.documents.upload import Upload, uploaded
from dragoman_service.server.http.endpoint import Answer, HttpCall, Route
from dragoman_service.server.http.messages import message_of
from dragoman_service.text.markup.files import FileFormat

MEDIA_TYPES = {
    FileFormat.TEXT: "text/plain; charset=utf-8",
    FileFormat.HTML: "text/html; charset=utf-8",
    FileFormat.MARKDOWN: "text/markdown; charset=utf-8",
    FileFormat.SRT: "application/x-subrip",
    FileFormat.VTT: "text/vtt; charset=utf-8",
    FileFormat.JSON: "application/json",
    FileFormat.PO: "text/x-gettext-translation; charset=utf-8",
    FileFormat.XLIFF: "application/xliff+xml",
    FileFormat.DOCX: "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    FileFormat.ODT: "application/vnd.oasis.opendocument.text",
}
_FIELDS = ("source_language", "target_language", "model", "allow_pivot", "glossary")
"""Fields of `TranslateRequest` that may be sent with a document."""
_LONGEST_WAIT = 60.0


async def take(call: HttpCall, key_field: str = "") -> Upload:
    """The document of a call whose body has not been read. `key_field` may have the caller's token.

    Raises InvalidInput, Overloaded and Unauthenticated.
    """
    jobs = call.service.documents
    await jobs.expect(call.answering.client)
    upload = await uploaded(call.context, jobs.max_bytes)
    if key_field:
        call.identify_by(upload.fields.get(key_field))
    return upload


async def begin(call: HttpCall, upload: Upload, template: pb.TranslateRequest) -> Job:
    """Begin to translate a document. Raises as `Translate` if no text can be translated so, and Overloaded."""
    trial = pb.TranslateRequest()
    trial.CopyFrom(template)
    trial.texts[:] = [""]
    await call.backend.translation.Translate(trial, call.answering)
    job = Job(call.answering.client, upload.name, template.source_language, template.target_language)
    with closing(upload.document):
        await call.service.documents.add(job, upload.document, call.context, template)
    return job


async def file_of(call: HttpCall, job: Job) -> Answer:
    """The translated document. Raises NotFound."""
    content = await call.service.documents.translated(job)
    call.answering.memory.add(len(content))
    # Both forms of RFC 6266: some programs read the first only.
    plain = "".join(it if it.isascii() and it not in '\\"' else "_" for it in job.translated_name)
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(job.translated_name)}"
    # A browser that shows a document of somebody else as a page would run its scripts with the rights of this server.
    headers = (
        ("content-disposition", disposition),
        ("x-content-type-options", "nosniff"),
        ("content-security-policy", "sandbox"),
    )
    return Answer(content, 200, MEDIA_TYPES[job.format], headers)


def described(job: Job) -> dict[str, Any]:
    """A job as JSON."""
    return {
        "id": job.id,
        "name": job.name,
        "state": job.state.value,
        "sourceLanguage": job.source_language,
        "targetLanguage": job.target_language,
        "texts": job.texts,
        "textsDone": job.texts_done,
        "characters": job.characters,
        "problems": [{"place": it.place, "message": it.message} for it in job.problems],
        "problemCount": job.num_problems,
        **({"error": job.error} if job.error else {}),
        **({"content": f"/v1/documents/{job.id}/content"} if job.state is State.DONE else {}),
        "createTime": _timestamp(job.created),
        **({"expireTime": _timestamp(job.expires)} if job.state.is_final else {}),
    }


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def _create(call: HttpCall) -> Answer:
    upload = await take(call)
    given = {name: value for name, value in upload.fields.items() if value != ""}
    template = message_of(_allowed(given), pb.TranslateRequest, call.repeated)
    return Answer(described(await begin(call, upload, template)), 202)


def _allowed(fields: Mapping[str, Any]) -> dict[str, Any]:
    known = {field.json_name: field.name for field in pb.TranslateRequest.DESCRIPTOR.fields}
    found: dict[str, Any] = {}
    for name, value in fields.items():
        own = known.get(name, name)
        if own not in _FIELDS:
            raise InvalidInput(name, value, f"file, {', '.join(_FIELDS)}")
        found[own] = value == "true" if own == "allow_pivot" and value in ("true", "false") else value
    return found


async def _get(call: HttpCall) -> Answer:
    jobs = call.service.documents
    job = jobs.find(call.context.path_values["id"], call.answering.client)
    wait = (await call.fields()).get("wait", "0")
    try:
        seconds = float(wait)
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds <= _LONGEST_WAIT:
        raise InvalidInput("wait", wait, f"seconds from 0 to {_LONGEST_WAIT:g}")
    return Answer(described(await jobs.wait(job, seconds)))


async def _content(call: HttpCall) -> Answer:
    job = call.service.documents.find(call.context.path_values["id"], call.answering.client)
    return await file_of(call, job)


async def _delete(call: HttpCall) -> Answer:
    jobs = call.service.documents
    job = jobs.find(call.context.path_values["id"], call.answering.client)
    jobs.remove(job)
    return Answer({})


ROUTES = (
    Route(("/v1/documents",), "CreateDocument", _create, has_body=False, takes_body=True),
    Route(("/v1/documents/{id}",), "GetDocument", _get, ("GET",), has_body=False),
    Route(("/v1/documents/{id}",), "DeleteDocument", _delete, ("DELETE",), has_body=False),
    Route(("/v1/documents/{id}/content",), "GetDocumentContent", _content, ("GET",), has_body=False),
)
