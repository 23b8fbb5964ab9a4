"""A gRPC server that keeps the metadata of each call: what a client sends, whatever a Dragoman server does with it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from dragoman_protos.admin.v1 import admin_pb2, admin_pb2_grpc
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc


@dataclass
class Seen:
    """The calls of a server so far."""

    port: int = 0
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Method and metadata of each."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def add(self, method: str, context: Any) -> None:
        with self.lock:
            self.calls.append((method, {str(key): str(value) for key, value in context.invocation_metadata()}))

    def values(self, key: str) -> list[str | None]:
        """The value of a key in each call; None if it was not sent."""
        return [metadata.get(key) for _, metadata in self.calls]


class _Translation(translation_pb2_grpc.TranslationServicer):
    def __init__(self, seen: Seen) -> None:
        self._seen = seen

    def Translate(self, request: pb.TranslateRequest, context: Any) -> pb.TranslateResponse:  # noqa: N802
        self._seen.add("Translate", context)
        translation = pb.TextTranslation(hypotheses=[pb.Hypothesis(text="done")])
        return pb.TranslateResponse(translations=[translation for _ in request.texts])

    def TranslateStream(self, request: pb.TranslateStreamRequest, context: Any) -> Any:  # noqa: N802
        self._seen.add("TranslateStream", context)
        yield pb.TranslateStreamResponse(chunk="done")

    def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:  # noqa: N802
        self._seen.add("ListModels", context)
        return pb.ListModelsResponse()


class _Admin(admin_pb2_grpc.ModelAdminServicer):
    def __init__(self, seen: Seen) -> None:
        for method in ("ListVersions", "Refresh", "LoadModel", "UnloadModel", "SetAlias", "DeleteAlias"):
            setattr(self, method, lambda request, context, method=method: self._answer(seen, method, context))

    @staticmethod
    def _answer(seen: Seen, method: str, context: Any) -> admin_pb2.ModelVersions:
        seen.add(method, context)
        return admin_pb2.ModelVersions()


@contextmanager
def echo_metadata(credentials: grpc.ServerCredentials | None = None) -> Iterator[Seen]:
    """Run the server, with TLS if there are `credentials`."""
    seen = Seen()
    server = grpc.server(ThreadPoolExecutor(4))
    translation_pb2_grpc.add_TranslationServicer_to_server(_Translation(seen), server)
    admin_pb2_grpc.add_ModelAdminServicer_to_server(_Admin(seen), server)
    where = "127.0.0.1:0"
    seen.port = server.add_secure_port(where, credentials) if credentials else server.add_insecure_port(where)
    server.start()
    try:
        yield seen
    finally:
        server.stop(0).wait()
