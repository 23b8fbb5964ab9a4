"""The services of Google Cloud Translation v3: `translate`, `languages` and `glossaries` have their mappings."""

from __future__ import annotations

import logging
from typing import Any, TypeAlias

import grpc
from google.longrunning import operations_pb2

from dragoman_protos.google import translation_v3_pb2 as pb
from dragoman_protos.google import translation_v3_pb2_grpc
from dragoman_protos.v1 import translation_pb2 as v1
from dragoman_service.interfaces.backend import Backend, Methods, Translation
from dragoman_service.interfaces.google import languages, operations, translate
from dragoman_service.interfaces.google.common import errors_of
from dragoman_service.interfaces.google.glossary_methods import GlossaryMethods

API = "google_v3"
SERVICES = ("google.cloud.translation.v3.TranslationService", "google.longrunning.Operations")

_TARGET = "target_language_code"
_NO_FILES = "this server does not read or write Cloud Storage; send texts with TranslateText"
_NO_DATASETS = (
    "this server has no datasets; models are trained and exported with `dragoman train` and `dragoman export`"
)
_NO_ADAPTATION = "this server has no adaptive translation; TranslateText takes a glossary"
_NO_MODEL_METHODS = "models are managed by dragoman.admin.v1, and listed by dragoman.v1.Translation/ListModels"
_UNSERVED = {
    "RomanizeText": "this server does not romanize text",
    "TranslateDocument": "this server does not translate documents over gRPC; TranslateText takes HTML",
    "BatchTranslateText": _NO_FILES,
    "BatchTranslateDocument": _NO_FILES,
    **dict.fromkeys(("CreateDataset", "GetDataset", "ListDatasets", "DeleteDataset"), _NO_DATASETS),
    **dict.fromkeys(("ImportData", "ExportData", "ListExamples"), _NO_DATASETS),
    **dict.fromkeys(("CreateAdaptiveMtDataset", "DeleteAdaptiveMtDataset", "GetAdaptiveMtDataset"), _NO_ADAPTATION),
    **dict.fromkeys(("ListAdaptiveMtDatasets", "AdaptiveMtTranslate", "GetAdaptiveMtFile"), _NO_ADAPTATION),
    **dict.fromkeys(("DeleteAdaptiveMtFile", "ImportAdaptiveMtFile", "ListAdaptiveMtFiles"), _NO_ADAPTATION),
    "ListAdaptiveMtSentences": _NO_ADAPTATION,
    **dict.fromkeys(("CreateModel", "ListModels", "GetModel", "DeleteModel"), _NO_MODEL_METHODS),
}
_OPERATIONS = {
    "GetOperation": operations_pb2.GetOperationRequest,
    "WaitOperation": operations_pb2.WaitOperationRequest,
}
_UNSERVED_OPERATIONS = dict.fromkeys(
    ("ListOperations", "CancelOperation", "DeleteOperation"), "operations are done when they are returned, and not kept"
)
OperationRequest: TypeAlias = operations_pb2.GetOperationRequest | operations_pb2.WaitOperationRequest

_log = logging.getLogger(__name__)


class GoogleServicer(GlossaryMethods, translation_v3_pb2_grpc.TranslationServiceServicer):
    """Answers calls, to be registered with `Methods`."""

    def __init__(self, backend: Backend) -> None:
        super().__init__(backend.glossaries)
        self._translation: Translation = backend.translation

    async def TranslateText(self, request: pb.TranslateTextRequest, call: Any) -> pb.TranslateTextResponse:  # noqa: N802
        plain, with_glossary = translate.request_of(request), translate.request_with_glossary(request)
        if request.labels:
            _log.debug("labels of a call: %s", dict(request.labels))
        with errors_of(translate.FIELDS, _TARGET):
            # The glossary is the more likely to be refused, so nothing has been done then.
            found = None if with_glossary is None else await self._translation.Translate(with_glossary, call)
            reply = await self._translation.Translate(plain, call)
        return translate.reply_of(request, reply, found)

    async def DetectLanguage(self, request: pb.DetectLanguageRequest, call: Any) -> pb.DetectLanguageResponse:  # noqa: N802
        asked = languages.detection_request(request)
        with errors_of(languages.DETECTION_FIELDS, "content"):
            return languages.detection_reply(await self._translation.DetectLanguage(asked, call))

    async def GetSupportedLanguages(  # noqa: N802
        self, request: pb.GetSupportedLanguagesRequest, call: Any
    ) -> pb.SupportedLanguages:
        reply = await self._translation.ListModels(v1.ListModelsRequest(), call)
        return languages.supported_languages(request, reply.models)

    async def operation(self, request: OperationRequest, call: Any) -> operations_pb2.Operation:
        """An operation that is done, by its name."""
        kind, glossary_name = operations.parsed_operation(request.name)
        if kind == operations.DELETE:
            return operations.deleted(glossary_name)
        return operations.made(kind, await self.GetGlossary(pb.GetGlossaryRequest(name=glossary_name), call))


def add(backend: Backend, methods: Methods) -> None:
    """Register the services."""
    servicer = GoogleServicer(backend)
    translation, operations_service = SERVICES
    translation_v3_pb2_grpc.add_TranslationServiceServicer_to_server(servicer, methods)
    methods.add_unserved(translation, _UNSERVED)
    # The generated code of this package is too old to name the methods that it registers.
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            servicer.operation, kind.FromString, operations_pb2.Operation.SerializeToString
        )
        for name, kind in _OPERATIONS.items()
    }
    methods.add_registered_method_handlers(operations_service, handlers)
    methods.add_unserved(operations_service, _UNSERVED_OPERATIONS)
