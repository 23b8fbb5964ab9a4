"""The gRPC service `dragoman.v1.Translation`: thin, from messages to the frontend and back."""

from __future__ import annotations

import asyncio
import functools
import ipaddress
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TypeAlias
from urllib.parse import unquote

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.errors import Cancelled, DeadlineExceeded, InvalidInput
from dragoman_service.repository.models import Route
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.convert import (
    decoding_options,
    detection,
    field_paths,
    first_options,
    format_of,
    html_rules_of,
    model_info,
    priority_of,
    scored,
    splitting_of,
    terms_of,
    text_translation,
)
from dragoman_service.server.settings import ServerSettings
from dragoman_service.text.markup.formats import without_tags
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.dispatch import Asked, Dispatcher, MakeCall, Way
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.prepare import Sender
from dragoman_service.translation.text_worker import Steps

API = "dragoman_v1"
"""Label of its calls in metrics."""
SERVICE_NAME = "dragoman.v1.Translation"

_FORWARDED_FOR = "x-forwarded-for"
_LONGEST_CLIENT = 200

Request: TypeAlias = pb.TranslateRequest | pb.TranslateStreamRequest


class TranslationServicer(translation_pb2_grpc.TranslationServicer):
    """Answers calls. To be registered with `Methods`, which reads the requests and handles the errors."""

    def __init__(self, frontend: Frontend, settings: ServerSettings) -> None:
        self._frontend = frontend
        self._dispatcher = Dispatcher(frontend)
        self._settings = settings

    async def Translate(self, request: pb.TranslateRequest, answering: Answering) -> pb.TranslateResponse:  # noqa: N802
        with field_paths(request):
            async with _admitted(answering, request.texts, request.target_prefixes):
                with self._frontend.counted():
                    return await self._translate(request, answering)

    async def _translate(self, request: pb.TranslateRequest, answering: Answering) -> pb.TranslateResponse:
        make_call = self._call_maker(request, answering)
        words = _words_of(request, request.texts)
        ways = await self._dispatcher.ways(_asked(request, answering), words, answering.client)
        results = await self._dispatcher.translate(ways, request.texts, request.target_prefixes, make_call)

        def messages() -> Steps[pb.TranslateResponse]:
            model, version = _model_of(ways[0])
            reply = pb.TranslateResponse(model=model, version=version)
            for result, way in zip(results, ways, strict=True):
                reply.translations.append(_message(request, result, way))
                yield
            return reply

        translations = sum(map(_translations_of, results))
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
        make_call = self._call_maker(request, answering)
        words = _words_of(request, (request.text,))
        (way,) = await self._dispatcher.ways(_asked(request, answering), words, answering.client)
        stream = self._dispatcher.stream(way, request.text, request.target_prefix, make_call)
        async with aclosing(stream) as pieces:
            async for piece in pieces:
                if isinstance(piece, str):
                    if way.routes:
                        answering.first_chunk(way.routes[-1].model.description)
                    await self._write(answering.context, pb.TranslateStreamResponse(chunk=piece))
                    continue
                result = await self._frontend.compute(
                    answering.client, self._stream_result(request, piece, way), translations=_translations_of(piece)
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
        request: pb.TranslateStreamRequest, result: TextResult, way: Way
    ) -> Steps[pb.TranslateStreamResult]:
        yield
        model, version = _model_of(way)
        return pb.TranslateStreamResult(translation=_message(request, result, way), model=model, version=version)

    async def DetectLanguage(  # noqa: N802
        self, request: pb.DetectLanguageRequest, answering: Answering
    ) -> pb.DetectLanguageResponse:
        with field_paths(request):
            async with _admitted(answering, request.texts, ()):
                with self._frontend.counted():
                    text_format = format_of(request.format)
                    texts = [without_tags(text, text_format) for text in request.texts]
                    found = await self._dispatcher.detect(
                        texts, request.languages, answering.allowed_models, answering.client
                    )
                    return pb.DetectLanguageResponse(detections=map(detection, found))

    async def Score(self, request: pb.ScoreRequest, answering: Answering) -> pb.ScoreResponse:  # noqa: N802
        with field_paths(request):
            async with _admitted(answering, request.texts, request.translations):
                with self._frontend.counted():
                    return await self._score(request, answering)

    async def _score(self, request: pb.ScoreRequest, answering: Answering) -> pb.ScoreResponse:
        sender = self._sender(request, answering)

        def make_call(route: Route, _: bool) -> Call:
            options = DecodingOptions(length_penalty=route.model.description.default_length_penalty)
            return Call((), route, options, memory=answering.memory, sender=sender(route))

        ways = await self._dispatcher.ways(_asked(request, answering), request.texts, answering.client)
        found = await self._dispatcher.score(ways, request.texts, request.translations, make_call)

        def messages() -> Steps[pb.ScoreResponse]:
            reply = pb.ScoreResponse()
            for each, way in zip(found, ways, strict=True):
                reply.scores.append(scored(each, way, tokens=request.return_tokens))
                yield
            return reply

        return await self._frontend.compute(answering.client, messages(), translations=len(found))

    async def ListModels(self, request: pb.ListModelsRequest, answering: Answering) -> pb.ListModelsResponse:  # noqa: N802
        async with _admitted(answering, (), ()):
            return pb.ListModelsResponse(models=self._models(answering.allowed_models))

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

    def _call_maker(self, request: Request, answering: Answering) -> MakeCall:
        """Makes the calls of a request."""
        sender = self._sender(request, answering)
        text_format, html = format_of(request.format), html_rules_of(request)
        splitting = splitting_of(request.splitting)
        keep, terms = tuple(request.keep), terms_of(request.terms)
        bias = request.target_prefix_bias if request.HasField("target_prefix_bias") else None
        words, tokens = tuple(request.suppressed_words), tuple(request.suppressed_tokens)

        def make(route: Route, is_last: bool) -> Call:
            if not is_last and (terms or request.glossary):
                field, got = ("terms", f"{len(terms)} terms") if terms else ("glossary", request.glossary)
                raise InvalidInput(field, got, "none for a text that two models translate")
            return Call(
                texts=(),
                route=route,
                options=(decoding_options if is_last else first_options)(request.options, route.model.description),
                memory=answering.memory,
                sentences=is_last and (request.return_sentences or request.return_alignments),
                alignments=is_last and request.return_alignments,
                format=text_format,
                html=html,
                keep=keep,
                terms=terms,
                glossary=request.glossary,
                glossary_any_case=request.glossary_ignore_case,
                splitting=splitting,
                join_lines=request.join_lines,
                target_prefix_bias=bias,
                suppressed_words=words if is_last else (),
                suppressed_tokens=tokens if is_last else (),
                sender=sender(route),
            )

        return make

    def _sender(self, request: Request | pb.ScoreRequest, answering: Answering) -> Callable[[Route], Sender]:
        """Makes the senders of the calls of a request. Their deadlines count from now."""
        remaining = answering.seconds_left
        if remaining is not None and remaining <= 0:
            raise DeadlineExceeded("the deadline had passed when the call arrived")
        now, priority = self._frontend.clock(), priority_of(request.priority)

        def make(route: Route) -> Sender:
            seconds = route.model.description.caps.seconds(remaining)
            deadline = None if seconds is None else now + seconds
            return Sender(client=answering.client, priority=priority, deadline=deadline)

        return make


def _words_of(request: Request, texts: Sequence[str]) -> Sequence[str]:
    """The texts for detecting their language. Raises InvalidInput for an unknown format."""
    text_format = format_of(request.format)
    return texts if request.source_language else [without_tags(text, text_format) for text in texts]


def _asked(request: Request | pb.ScoreRequest, answering: Answering) -> Asked:
    """The models and languages of a request. Raises Forbidden for a model that the caller may not use."""
    if answering.caller is not None:
        answering.caller.check_model(request.model)
    return Asked(
        model=request.model,
        source_language=request.source_language,
        target_language=request.target_language,
        allow_pivot=not isinstance(request, pb.ScoreRequest) and request.allow_pivot,
        allowed=answering.allowed_models,
    )


def _admitted(answering: Answering, texts: Iterable[str], prefixes: Iterable[str]) -> AbstractAsyncContextManager[None]:
    """The context of a call within the quotas of its token; raises QuotaExceeded when it is entered."""
    return answering.within_quotas(sum(map(len, texts)) + sum(map(len, prefixes)))


def client_of(context: Context, header: str, *, mutual_tls: bool = False) -> str:
    """Whose call it is: what the metadata says, if the operator trusts it; else the name in the caller's certificate;
    else the address, without the port.
    """
    if header:
        values = [str(value) for key, value in context.invocation_metadata() or () if key == header]
        if values:
            # Each proxy appends the address that called it; what stands before, the caller may have made up.
            named = values[-1].rpartition(",")[2].strip() if header == _FORWARDED_FOR else values[0]
            return named[:_LONGEST_CLIENT]
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


def _message(request: Request, result: TextResult, way: Way) -> pb.TextTranslation:
    return text_translation(result, way, tokens=request.return_tokens, token_scores=request.return_token_scores)


def _model_of(way: Way) -> tuple[str, str]:
    """Name and version of the model that translates last; empty for a text that is copied."""
    if not way.routes:
        return "", ""
    model = way.routes[-1].model.description
    return model.name, model.version


def _translations_of(result: TextResult) -> int:
    return max(1, result.sentences * len(result.hypotheses) + len(result.warnings))
