"""The gRPC service `dragoman.v1.Translation`: thin, from messages to the frontend and back."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections.abc import Container, Iterable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import TypeAlias
from urllib.parse import unquote

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.errors import Cancelled, DeadlineExceeded
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.convert import (
    decoding_options,
    field_paths,
    model_info,
    priority_of,
    terms_of,
    text_translation,
)
from dragoman_service.server.settings import ServerSettings
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.prepare import Sender
from dragoman_service.translation.text_worker import Steps

SERVICE_NAME = "dragoman.v1.Translation"

_LONGEST_CLIENT = 200
_NO_QUOTAS = nullcontext()

Request: TypeAlias = pb.TranslateRequest | pb.TranslateStreamRequest


class TranslationServicer(translation_pb2_grpc.TranslationServicer):
    """Answers calls. To be registered with `Methods`, which reads the requests and handles the errors."""

    def __init__(self, frontend: Frontend, settings: ServerSettings) -> None:
        self._frontend = frontend
        self._settings = settings

    async def Translate(self, request: pb.TranslateRequest, answering: Answering) -> pb.TranslateResponse:  # noqa: N802
        with field_paths(request):
            async with _admitted(answering, request.texts, request.target_prefixes):
                with self._frontend.counted():
                    return await self._translate(request, answering)

    async def _translate(self, request: pb.TranslateRequest, answering: Answering) -> pb.TranslateResponse:
        call = self._call(request, request.texts, request.target_prefixes, answering)
        results = await self._frontend.translate(call)
        model = call.route.model.description
        translations = sum(result.sentences for result in results) * call.options.num_hypotheses

        def messages() -> Steps[pb.TranslateResponse]:
            reply = pb.TranslateResponse(model=model.name, version=model.version)
            for result in results:
                reply.translations.append(_message(request, result, call))
                yield
            return reply

        return await self._frontend.compute(answering.client, messages(), translations=translations)

    async def TranslateStream(self, request: pb.TranslateStreamRequest, answering: Answering) -> None:  # noqa: N802
        # Written with `write` rather than `yield`: a caller who leaves then cancels us here, and not whenever the
        # garbage collector finds the generator.
        # The token is looked at when a call begins: a stream ends as it would have, as a call of many texts does.
        with field_paths(request):
            async with _admitted(answering, (request.text,), (request.target_prefix,)):
                with self._frontend.counted():
                    await self._translate_stream(request, answering)

    async def _translate_stream(self, request: pb.TranslateStreamRequest, answering: Answering) -> None:
        prefixes = (request.target_prefix,) if request.target_prefix else ()
        call = self._call(request, (request.text,), prefixes, answering)
        model = call.route.model.description
        async with aclosing(self._frontend.stream(call)) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    answering.first_chunk(model)
                    await self._write(answering.context, pb.TranslateStreamResponse(chunk=piece))
                    continue
                result = await self._frontend.compute(
                    answering.client,
                    self._stream_result(request, piece, call),
                    translations=piece.sentences * call.options.num_hypotheses,
                )
                await self._write(answering.context, pb.TranslateStreamResponse(result=result))

    async def _write(self, context: Context, message: pb.TranslateStreamResponse) -> None:
        """Send a message. A reader who takes nothing for too long has left, as far as those who wait are concerned."""
        try:
            async with asyncio.timeout(self._settings.write_timeout):
                await context.write(message)
        except TimeoutError:
            raise Cancelled(f"the stream was not read for {self._settings.write_timeout:g} s") from None
        except Exception as gone:
            # The call has ended while the message waited for its reader: as if we had heard of it.
            raise asyncio.CancelledError from gone

    @staticmethod
    def _stream_result(
        request: pb.TranslateStreamRequest, result: TextResult, call: Call
    ) -> Steps[pb.TranslateStreamResult]:
        yield
        model = call.route.model.description
        return pb.TranslateStreamResult(
            translation=_message(request, result, call), model=model.name, version=model.version
        )

    async def ListModels(self, request: pb.ListModelsRequest, answering: Answering) -> pb.ListModelsResponse:  # noqa: N802
        async with _admitted(answering, (), ()):
            return pb.ListModelsResponse(models=self._models(_allowed_models(answering)))

    def _models(self, allowed: Container[str] | None) -> list[pb.ModelInfo]:
        entries, glossaries = self._frontend.models.entries, self._frontend.glossaries.names()
        return [
            model_info(
                model.description,
                self._frontend.limits,
                entries[model.description.name].aliases_of(model.description.version),
                is_default=model is entries[model.description.name].default,
                glossaries=glossaries,
            )
            for model in self._frontend.models.models
            if allowed is None or model.description.name in allowed
        ]

    def _call(self, request: Request, texts: Iterable[str], prefixes: Iterable[str], answering: Answering) -> Call:
        if answering.caller is not None:
            answering.caller.check_model(request.model)
        remaining = answering.seconds_left
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("the deadline had passed when the call arrived")
        route = self._frontend.models.route(
            request.model, request.source_language, request.target_language, _allowed_models(answering)
        )
        model = route.model.description
        seconds = model.caps.seconds(remaining)
        return Call(
            texts=tuple(texts),
            route=route,
            options=decoding_options(request.options, model),
            target_prefixes=tuple(prefixes),
            memory=answering.memory,
            sentences=request.return_sentences or request.return_alignments,
            alignments=request.return_alignments,
            keep=tuple(request.keep),
            terms=terms_of(request.terms),
            glossary=request.glossary,
            sender=Sender(
                client=answering.client,
                priority=priority_of(request.priority),
                deadline=None if seconds is None else self._frontend.clock() + seconds,
            ),
        )


def _admitted(answering: Answering, texts: Iterable[str], prefixes: Iterable[str]) -> AbstractAsyncContextManager[None]:
    """The context of a call within the quotas of its token; raises QuotaExceeded when it is entered."""
    if answering.caller is None:
        return _NO_QUOTAS
    return answering.caller.admitted(sum(map(len, texts)) + sum(map(len, prefixes)))


def _allowed_models(answering: Answering) -> Container[str] | None:
    return None if answering.caller is None else answering.caller.models


def client_of(context: Context, header: str, *, mutual_tls: bool = False) -> str:
    """Whose call it is: what the metadata says, if the operator trusts it; else the name in the caller's certificate;
    else the address, without the port.
    """
    if header:
        for key, value in context.invocation_metadata() or ():
            if key == header:
                return str(value)[:_LONGEST_CLIENT]
    if mutual_tls and (name := _certificate_name(context)):
        return name
    return _network_of(str(context.peer()).rpartition(":")[0])


@functools.lru_cache(maxsize=4096)
def _network_of(peer: str) -> str:
    """An address of gRPC without its port. Of IPv6, the first 64 bits, because a caller has all the others."""
    kind, _, host = peer.partition(":")
    if kind != "ipv6":
        return peer
    try:
        address = ipaddress.IPv6Address(unquote(host).strip("[]"))
    except ValueError:  # an address with a zone, which is one of this network
        return peer
    if address.ipv4_mapped:
        return f"ipv4:{address.ipv4_mapped}"
    return f"ipv6:{ipaddress.IPv6Network((address, 64), strict=False)}"


def _certificate_name(context: Context) -> str:
    """The first subject alternative name in the caller's certificate, else the common name; empty if it has none."""
    found = context.auth_context()
    for key in ("x509_subject_alternative_name", "x509_common_name"):
        for name in found.get(key, ()):
            if name:
                return f"certificate:{name.decode(errors='replace')}"[:_LONGEST_CLIENT]
    return ""


def _message(request: Request, result: TextResult, call: Call) -> pb.TextTranslation:
    return text_translation(
        result,
        call.route.model.tokenizer,
        tokens=request.return_tokens,
        token_scores=request.return_token_scores,
    )
