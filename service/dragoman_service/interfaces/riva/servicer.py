"""The translation service of NVIDIA Riva: `translate` and `languages` have its mappings."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dragoman_protos.riva import nmt_pb2 as pb
from dragoman_protos.riva import nmt_pb2_grpc
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.errors import InvalidInput, NoLanguagePair, NotFound
from dragoman_service.interfaces.backend import Backend, Methods
from dragoman_service.interfaces.fields import renamed_fields
from dragoman_service.interfaces.riva import languages, translate

API = "riva"
SERVICES = ("nvidia.riva.nmt.RivaTranslation",)

_NO_SPEECH = "this server does not recognise or synthesise speech; send texts with TranslateText"
_UNSERVED = dict.fromkeys(("StreamingTranslateSpeechToText", "StreamingTranslateSpeechToSpeech"), _NO_SPEECH)


class RivaServicer(nmt_pb2_grpc.RivaTranslationServicer):
    """Answers calls, to be registered with `Methods`."""

    def __init__(self, backend: Backend) -> None:
        self._translation = backend.translation

    async def TranslateText(self, request: pb.TranslateTextRequest, call: Any) -> pb.TranslateTextResponse:  # noqa: N802
        with _errors():
            reply = await self._translation.Translate(translate.request_of(request), call)
        return translate.reply_of(request, reply)

    async def ListSupportedLanguagePairs(  # noqa: N802
        self, request: pb.AvailableLanguageRequest, call: Any
    ) -> pb.AvailableLanguageResponse:
        with _errors():
            reply = await self._translation.ListModels(v1.ListModelsRequest(), call)
            return languages.language_pairs(request, reply.models)


@contextmanager
def _errors() -> Iterator[None]:
    """Errors inside become those of Riva: a model or language that is not served is an invalid argument."""
    try:
        with renamed_fields(translate.FIELDS):
            yield
    except NoLanguagePair as error:
        raise InvalidInput.because_of("target_language", error) from None
    except NotFound as error:
        raise InvalidInput.because_of("model", error) from None


def add(backend: Backend, methods: Methods) -> None:
    """Register the service."""
    nmt_pb2_grpc.add_RivaTranslationServicer_to_server(RivaServicer(backend), methods)
    (service,) = SERVICES
    methods.add_unserved(service, _UNSERVED)
