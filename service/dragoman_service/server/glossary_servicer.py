"""The gRPC service `dragoman.v1.Glossaries`: from messages to the folder of glossaries and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from dragoman_protos.v1 import glossaries_pb2 as pb
from dragoman_protos.v1 import glossaries_pb2_grpc
from dragoman_protos.v1.translation_pb2 import Term as TermMessage
from dragoman_service.errors import InvalidInput, NoLanguagePair
from dragoman_service.server.access.tokens import GLOSSARIES
from dragoman_service.server.call_lifecycle import Answering
from dragoman_service.server.convert import terms_of
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.glossary_files import GlossaryId, GlossaryText

GLOSSARIES_SERVICE_NAME = "dragoman.v1.Glossaries"

T = TypeVar("T")


class GlossaryServicer(glossaries_pb2_grpc.GlossariesServicer):
    """Answers calls, to be registered with `Methods`. Files are read and written on threads."""

    def __init__(self, frontend: Frontend) -> None:
        self._frontend = frontend

    async def ListGlossaries(  # noqa: N802
        self, request: pb.ListGlossariesRequest, answering: Answering
    ) -> pb.ListGlossariesResponse:
        async with self._admitted(answering):
            found = await _on_thread(self._frontend.glossaries.listing)
            return pb.ListGlossariesResponse(glossaries=[_message(id_, text, count) for id_, count, text in found])

    async def GetGlossary(self, request: pb.GetGlossaryRequest, answering: Answering) -> pb.Glossary:  # noqa: N802
        async with self._admitted(answering):
            glossary = self._id(request, answering)
            text = await _on_thread(lambda: self._frontend.glossaries.get(glossary))
            return _message(glossary, text)

    async def CreateGlossary(self, request: pb.CreateGlossaryRequest, answering: Answering) -> pb.Glossary:  # noqa: N802
        async with self._admitted(answering, GLOSSARIES):
            glossary, text = self._id(request.glossary, answering, known=True), _text(request.glossary)
            made = await _on_thread(lambda: self._frontend.glossaries.create(glossary, text))
            return _message(glossary, made)

    async def UpdateGlossary(self, request: pb.UpdateGlossaryRequest, answering: Answering) -> pb.Glossary:  # noqa: N802
        async with self._admitted(answering, GLOSSARIES):
            glossary, text = self._id(request.glossary, answering), _text(request.glossary)
            revision = request.glossary.revision
            made = await _on_thread(lambda: self._frontend.glossaries.replace(glossary, text, revision))
            return _message(glossary, made)

    async def DeleteGlossary(  # noqa: N802
        self, request: pb.DeleteGlossaryRequest, answering: Answering
    ) -> pb.DeleteGlossaryResponse:
        async with self._admitted(answering, GLOSSARIES):
            glossary = self._id(request, answering)
            await _on_thread(lambda: self._frontend.glossaries.delete(glossary))
            return pb.DeleteGlossaryResponse()

    @asynccontextmanager
    async def _admitted(self, answering: Answering, scope: str = "") -> AsyncIterator[None]:
        """A context within the quotas of the call's token, which needs the scope if there is one."""
        if scope and answering.caller is not None:
            answering.caller.check_scope(scope)
        async with answering.within_quotas(0):
            with self._frontend.counted():
                yield

    def _id(
        self,
        asked: pb.Glossary | pb.GetGlossaryRequest | pb.DeleteGlossaryRequest,
        answering: Answering,
        *,
        known: bool = False,
    ) -> GlossaryId:
        """Which glossary: its languages as a model spells them. With `known`, raises NoLanguagePair if none does."""
        languages = asked.source_language, asked.target_language
        for field, language in zip(("source_language", "target_language"), languages, strict=True):
            if not language:
                raise InvalidInput(f"glossary.{field}" if known else field, "", "a language of a model")
        candidates = self._frontend.models.candidates("", answering.allowed_models)
        try:
            route = candidates.route(*languages)
        except NoLanguagePair:
            if known:
                raise
            return GlossaryId(asked.name, *languages)
        return GlossaryId(asked.name, route.source_language, route.target_language)


async def _on_thread(work: Callable[[], T]) -> T:
    """Run to the end, even if the call is cancelled: a file is written or it is not."""
    return await asyncio.shield(asyncio.to_thread(work))


def _text(message: pb.Glossary) -> GlossaryText:
    return GlossaryText(terms_of(message.entries), message.description)


def _message(glossary: GlossaryId, text: GlossaryText, count: int | None = None) -> pb.Glossary:
    """A glossary. `count` is given for one whose entries are not wanted."""
    changed = Timestamp()
    changed.FromNanoseconds(text.changed)
    return pb.Glossary(
        name=glossary.name,
        source_language=glossary.source_language,
        target_language=glossary.target_language,
        description=text.description,
        entries=[
            TermMessage(source=it.source, target=it.target, case_sensitive=it.case_sensitive) for it in text.entries
        ],
        entry_count=len(text.entries) if count is None else count,
        change_time=changed,
        revision=text.revision,
    )
