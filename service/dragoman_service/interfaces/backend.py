"""What the interfaces of others call: the servicer of `dragoman.v1`, in the same process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from dragoman_protos.v1 import translation_pb2 as pb


class Backend(Protocol):
    """Answers requests of `dragoman.v1`.

    Admission, quotas, fairness, memory, deadlines, and the rights of tokens are those of the call that is passed on. It
    raises errors of `dragoman_service.errors`, which name fields of the request that it was given.
    """

    async def Translate(self, request: pb.TranslateRequest, call: Any, /) -> pb.TranslateResponse:  # noqa: N802
        """Translate texts."""
        ...

    async def DetectLanguage(self, request: pb.DetectLanguageRequest, call: Any, /) -> pb.DetectLanguageResponse:  # noqa: N802
        """Detect the languages of texts."""
        ...

    async def ListModels(self, request: pb.ListModelsRequest, call: Any, /) -> pb.ListModelsResponse:  # noqa: N802
        """List the models that the caller may use."""
        ...


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
