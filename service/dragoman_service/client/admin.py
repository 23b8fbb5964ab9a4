"""The Python client of the admin interface: lists, loads and unloads versions of models, and sets aliases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc

from dragoman_protos.admin.v1 import admin_pb2 as pb
from dragoman_protos.admin.v1 import admin_pb2_grpc
from dragoman_service.client.connection import Connection, Tls, Token
from dragoman_service.client.errors import error_of

LOAD_SECONDS = 600.0
"""Default deadline of a call, in seconds: a large model is read, checked and tested before it serves."""


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model; see `VersionInfo` in admin.proto."""

    model: str
    version: str
    state: str
    """available, serving, failed, or unloaded."""
    reason: str
    aliases: tuple[tuple[str, float], ...]
    """Name and share of each."""
    is_default: bool


class AdminClient:
    """A connection to the admin interface of a server (`dragoman serve --admin`). A context manager, or call `close`.

    Every method but `close` returns the state of all versions after the call, and raises one of
    `dragoman_service.client.errors`.
    """

    def __init__(
        self,
        address: str,
        *,
        deadline: float = LOAD_SECONDS,
        tls: bool | Tls = False,
        token: str | Token = "",
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """`address` is HOST:PORT or unix:PATH, which has no TLS; `deadline` is in seconds, for each call. The others
        are as for TranslationClient.
        """
        self._connection = Connection(address, tls, token, metadata)
        self._channel = self._connection.channel()
        self._stub = admin_pb2_grpc.ModelAdminStub(self._channel)
        self._deadline = deadline

    def versions(self) -> list[Version]:
        """All versions that the server knows."""
        with _errors():
            return _versions(self._stub.ListVersions(pb.ListVersionsRequest(), **self._call()))

    def refresh(self) -> list[Version]:
        """Make the server read its repository now."""
        with _errors():
            return _versions(self._stub.Refresh(pb.RefreshRequest(), **self._call()))

    def load(self, model: str, version: str = "") -> list[Version]:
        """Put a version into service; the newest if `version` is empty."""
        request = pb.LoadModelRequest(model=model, version=version)
        with _errors():
            return _versions(self._stub.LoadModel(request, **self._call()))

    def unload(self, model: str, version: str = "") -> list[Version]:
        """Take a version out of service; all versions of the model if `version` is empty."""
        request = pb.UnloadModelRequest(model=model, version=version)
        with _errors():
            return _versions(self._stub.UnloadModel(request, **self._call()))

    def set_alias(self, model: str, alias: str, version: str, share: float = 0.0) -> list[Version]:
        """Point an alias at a version. `share`, 0 to 1, is its part of the calls that name no version."""
        request = pb.SetAliasRequest(model=model, alias=alias, version=version, share=share)
        with _errors():
            return _versions(self._stub.SetAlias(request, **self._call()))

    def delete_alias(self, model: str, alias: str) -> list[Version]:
        """Delete an alias."""
        request = pb.DeleteAliasRequest(model=model, alias=alias)
        with _errors():
            return _versions(self._stub.DeleteAlias(request, **self._call()))

    def _call(self) -> dict[str, Any]:
        """Arguments of a call besides its request."""
        return {"timeout": self._deadline, "metadata": self._connection.metadata()}

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> AdminClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except grpc.RpcError as error:
        raise error_of(error) from None


def _versions(response: pb.ModelVersions) -> list[Version]:
    return [
        Version(
            model=info.model,
            version=info.version,
            state=pb.VersionState.Name(info.state).removeprefix("VERSION_STATE_").lower(),
            reason=info.reason,
            aliases=tuple((alias.alias, alias.share) for alias in info.aliases),
            is_default=info.is_default,
        )
        for info in response.versions
    ]
