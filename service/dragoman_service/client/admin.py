"""The Python client for operators: which versions of which models a server has in service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from dragoman_protos.admin.v1 import admin_pb2 as pb
from dragoman_protos.admin.v1 import admin_pb2_grpc
from dragoman_service.client.errors import error_of

LOAD_SECONDS = 600.0
"""What a change may take by default: a big model is read, checked and proved before it serves."""


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

    Every method returns all versions as they are then, and raises one of `dragoman_service.client.errors`.
    """

    def __init__(self, address: str, *, deadline: float = LOAD_SECONDS) -> None:
        """`address` is HOST:PORT or unix:PATH; `deadline` is in seconds, for each call."""
        self._channel = grpc.insecure_channel(address)
        self._stub = admin_pb2_grpc.ModelAdminStub(self._channel)
        self._deadline = deadline

    def versions(self) -> list[Version]:
        """All that the server knows of."""
        with _errors():
            return _versions(self._stub.ListVersions(pb.ListVersionsRequest(), timeout=self._deadline))

    def refresh(self) -> list[Version]:
        """Have the server look at its repository now."""
        with _errors():
            return _versions(self._stub.Refresh(pb.RefreshRequest(), timeout=self._deadline))

    def load(self, model: str, version: str = "") -> list[Version]:
        """Put a version, or the newest, into service."""
        request = pb.LoadModelRequest(model=model, version=version)
        with _errors():
            return _versions(self._stub.LoadModel(request, timeout=self._deadline))

    def unload(self, model: str, version: str = "") -> list[Version]:
        """Take a version, or all, out of service."""
        request = pb.UnloadModelRequest(model=model, version=version)
        with _errors():
            return _versions(self._stub.UnloadModel(request, timeout=self._deadline))

    def set_alias(self, model: str, alias: str, version: str, share: float = 0.0) -> list[Version]:
        """Have an alias mean a version, and get a share, 0 to 1, of the calls that name no version."""
        request = pb.SetAliasRequest(model=model, alias=alias, version=version, share=share)
        with _errors():
            return _versions(self._stub.SetAlias(request, timeout=self._deadline))

    def delete_alias(self, model: str, alias: str) -> list[Version]:
        """Forget an alias."""
        request = pb.DeleteAliasRequest(model=model, alias=alias)
        with _errors():
            return _versions(self._stub.DeleteAlias(request, timeout=self._deadline))

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
