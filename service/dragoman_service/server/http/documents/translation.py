"""The texts of a document on their way through the servicer of `dragoman.v1`, in calls like those of anybody else."""

from __future__ import annotations

import asyncio
import random
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Never, TypeVar

import grpc
from google.rpc import status_pb2

from dragoman_protos.metadata import DETAILS_KEY
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.interfaces.backend import Backend
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.http.context import Aborted
from dragoman_service.server.http.documents.process import Texts
from dragoman_service.server.http.failure import Failure
from dragoman_service.server.intake import BYTES_PER_BYTE, Intake
from dragoman_service.server.methods import Identify
from dragoman_service.server.metrics import Metrics
from dragoman_service.text.markup.formats import TextFormat
from dragoman_service.translation.settings import RequestLimits

API = "documents"
"""Label of the calls in metrics."""
_FORMATS = {
    TextFormat.PLAIN: pb.TEXT_FORMAT_PLAIN,
    TextFormat.HTML: pb.TEXT_FORMAT_HTML,
    TextFormat.MARKDOWN: pb.TEXT_FORMAT_MARKDOWN,
}
_TEXTS_PER_CALL = 64
_CHARACTERS_PER_CALL = 20_000
_SAMPLE_CHARACTERS = 2_000
"""What the language of a document is detected from."""
_RETRIED = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE)
_TEXT_FIELD = re.compile(r"texts(?:\[(\d+)\])?")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Services:
    """Where calls are made, as they are made for any caller."""

    backend: Backend
    metrics: Metrics
    intake: Intake
    identify: Identify
    limits: RequestLimits
    """Of a call."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a text."""

    text: str | None
    """Its translation; None: it stays as it was."""
    problem: str = ""
    """What is wrong with it."""


class DetachedContext:
    """The caller of a request, for calls that are made after its connection has ended."""

    def __init__(self, context: Context) -> None:
        self._metadata = tuple(context.invocation_metadata() or ())
        self._peer = context.peer()
        self._auth_context = context.auth_context()

    def invocation_metadata(self) -> Iterable[tuple[str, str | bytes]]:
        """See `Context`."""
        return self._metadata

    def peer(self) -> str:
        """See `Context`."""
        return self._peer

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """See `Context`."""
        return self._auth_context

    def time_remaining(self) -> None:
        """See `Context`: a document has a time limit of its own."""
        return

    def set_trailing_metadata(self, metadata: tuple[tuple[str, str | bytes], ...], /) -> None:
        """See `Context`."""

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]], /) -> Never:
        """End a call with a status, by raising `Aborted`."""
        raise Aborted(status_pb2.Status.FromString(dict(metadata)[DETAILS_KEY]))

    async def write(self, message: Any, /) -> None:
        """See `Context`: no call streams."""
        raise AssertionError(message)


class DocumentCalls:
    """Makes the calls of a document."""

    def __init__(self, services: Services, context: Context, template: pb.TranslateRequest) -> None:
        """Translate as `template` says, which has no texts, for the caller that `context` is of."""
        self._services = services
        self._context = DetachedContext(context)
        self._template = template

    async def detect(self, texts: Texts) -> str:
        """The language of a document, which is then that of all its texts: one alone says less. Raises Aborted.

        It is empty if no model translates from this language: each text has its own then, and some may be in the target
        language already.
        """
        sample = "\n".join(_first_of(texts.texts, _SAMPLE_CHARACTERS))
        request = pb.DetectLanguageRequest(texts=[sample[:_SAMPLE_CHARACTERS]], format=_FORMATS[texts.format])

        async def call(answering: Answering) -> pb.DetectLanguageResponse:
            return await self._services.backend.translation.DetectLanguage(request, answering)

        found = await self._answered("DetectLanguage", request.ByteSize(), call)
        candidates = found.detections[0].candidates
        self._template.source_language = candidates[0].language if candidates else ""
        try:
            await self._translate([""], pb.TEXT_FORMAT_PLAIN)
        except Aborted as aborted:
            if Failure(aborted.status, had_key=False).code is not grpc.StatusCode.NOT_FOUND:
                raise
            self._template.source_language = ""
        return str(self._template.source_language)

    async def translated(self, texts: Texts) -> AsyncIterator[Outcome]:
        """What becomes of each text, in order.

        Raises:
            Aborted: a call failed, for another reason than its texts or the load of the server.
        """
        limits = self._services.limits
        todo = deque(_chunks(texts.texts, min(_TEXTS_PER_CALL, limits.max_texts)))
        while todo:
            chunk = todo.popleft()
            if len(chunk) == 1 and len(chunk[0]) > limits.max_characters:
                # As a call it could need more memory than there is, and so be refused as if it were for the load.
                yield Outcome(None, f"got {len(chunk[0])} characters; allowed: at most {limits.max_characters}")
                continue
            try:
                reply = await self._translate(chunk, _FORMATS[texts.format])
            except Aborted as aborted:
                failure = Failure(aborted.status, had_key=False)
                parts = _divided(chunk, failure.field)
                if not parts:
                    raise
                if len(chunk) == 1:
                    yield Outcome(None, failure.message.partition(": ")[2])
                else:
                    todo.extendleft(reversed(parts))
                continue
            for item in reply.translations:
                best = item.hypotheses[0]
                reason = pb.FinishReason.Name(best.finish_reason).removeprefix("FINISH_REASON_")
                cut = "" if best.finish_reason == pb.FINISH_REASON_STOP else f"its translation is incomplete ({reason})"
                yield Outcome(best.text, cut)

    async def _translate(self, texts: Sequence[str], text_format: pb.TextFormat) -> pb.TranslateResponse:
        request = pb.TranslateRequest()
        request.CopyFrom(self._template)
        request.texts.extend(texts)
        request.format = text_format
        request.priority = pb.PRIORITY_BATCH

        async def call(answering: Answering) -> pb.TranslateResponse:
            return await self._services.backend.translation.Translate(request, answering)

        return await self._answered("Translate", request.ByteSize(), call)

    async def _answered(self, method: str, size: int, call: Callable[[Answering], Awaitable[T]]) -> T:
        """The reply to a call, which is made again as long as the server is overloaded. Raises Aborted."""
        while True:
            try:
                # A task of its own: the memory of a call is given back when its task ends.
                return await asyncio.create_task(self._answered_once(method, size, call))
            except Aborted as aborted:
                failure = Failure(aborted.status, had_key=False)
                if failure.code not in _RETRIED:
                    raise
                await asyncio.sleep(failure.retry_seconds * random.uniform(1.0, 1.5))

    async def _answered_once(self, method: str, size: int, call: Callable[[Answering], Awaitable[T]]) -> T:
        services = self._services
        async with Answering(services.metrics, API, method, self._context) as answering:
            services.identify(answering)
            answering.memory = memory = services.intake.admit(answering.client)
            memory.add(BYTES_PER_BYTE * size)
            return await call(answering)
        raise AssertionError("unreachable")


def _chunks(texts: Iterable[str], most: int) -> Iterator[list[str]]:
    """The texts in order, as many together as one call may have."""
    chunk: list[str] = []
    characters = 0
    for text in texts:
        if chunk and (len(chunk) == most or characters + len(text) > _CHARACTERS_PER_CALL):
            yield chunk
            chunk, characters = [], 0
        chunk.append(text)
        characters += len(text)
    if chunk:
        yield chunk


def _divided(chunk: list[str], field: str) -> list[list[str]]:
    """The parts of texts that are sent again after `field` was refused: that text alone, or halves. Empty: another
    field, so that no part would be accepted.
    """
    found = _TEXT_FIELD.match(field)
    if found is None:
        return []
    start = int(found[1]) if found[1] else len(chunk) // 2
    end = start + 1 if found[1] else start
    return [part for part in (chunk[:start], chunk[start:end], chunk[end:]) if part]


def _first_of(texts: Iterable[str], characters: int) -> Iterator[str]:
    """The first texts, until they have so many characters."""
    for text in texts:
        yield text
        characters -= len(text)
        if characters <= 0:
            return
