"""What the interfaces of others call: the servicers of `dragoman.v1`, in the same process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from dragoman_protos.v1 import glossaries_pb2, translation_pb2


class Translation(Protocol):
    """The servicer of `dragoman.v1.Translation`.

    The second argument of its methods is the call of the caller, `server.call_lifecycle.Answering`, which an interface
    passes on as it got it: admission, quotas, fairness, memory, deadlines and the rights of tokens are those of this
    call. Errors are those of `dragoman_service.errors`, and name fields of the request that the method was given.
    """

    async def Translate(  # noqa: N802
        self, request: translation_pb2.TranslateRequest, call: Any, /
    ) -> translation_pb2.TranslateResponse: ...

    async def DetectLanguage(  # noqa: N802
        self, request: translation_pb2.DetectLanguageRequest, call: Any, /
    ) -> translation_pb2.DetectLanguageResponse: ...

    async def ListModels(  # noqa: N802
        self, request: translation_pb2.ListModelsRequest, call: Any, /
    ) -> translation_pb2.ListModelsResponse: ...


class Glossaries(Protocol):
    """The servicer of `dragoman.v1.Glossaries`; its calls are like those of `Translation`."""

    async def ListGlossaries(  # noqa: N802
        self, request: glossaries_pb2.ListGlossariesRequest, call: Any, /
    ) -> glossaries_pb2.ListGlossariesResponse: ...

    async def GetGlossary(  # noqa: N802
        self, request: glossaries_pb2.GetGlossaryRequest, call: Any, /
    ) -> glossaries_pb2.Glossary: ...

    async def CreateGlossary(  # noqa: N802
        self, request: glossaries_pb2.CreateGlossaryRequest, call: Any, /
    ) -> glossaries_pb2.Glossary: ...

    async def UpdateGlossary(  # noqa: N802
        self, request: glossaries_pb2.UpdateGlossaryRequest, call: Any, /
    ) -> glossaries_pb2.Glossary: ...

    async def DeleteGlossary(  # noqa: N802
        self, request: glossaries_pb2.DeleteGlossaryRequest, call: Any, /
    ) -> glossaries_pb2.DeleteGlossaryResponse: ...


@dataclass(frozen=True, slots=True)
class Backend:
    """All that an interface calls."""

    translation: Translation
    glossaries: Glossaries


class Methods(Protocol):
    """Registers servicers: `server.methods.Methods`. Generated code takes it for a server of gRPC."""

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """As a server of gRPC."""
        ...

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """As a server of gRPC."""
        ...

    def add_unserved(self, service: str, reasons: Mapping[str, str]) -> None:
        """Refuse methods of a service, each with a sentence of its own."""
        ...
