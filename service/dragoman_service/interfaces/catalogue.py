"""The interfaces of others that are gRPC services."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dragoman_service.interfaces.backend import Backend, Methods
from dragoman_service.interfaces.google import servicer as google
from dragoman_service.interfaces.names import GOOGLE, RIVA
from dragoman_service.interfaces.riva import servicer as riva


@dataclass(frozen=True, slots=True)
class GrpcInterface:
    """One or more gRPC services."""

    name: str
    """By which operators choose it."""
    api: str
    """Label of its calls in metrics."""
    services: tuple[str, ...]
    """Full names of the services, for reflection."""
    add: Callable[[Backend, Methods], None]
    """Registers the services."""


_ALL = (
    GrpcInterface(GOOGLE, google.API, google.SERVICES, google.add),
    GrpcInterface(RIVA, riva.API, riva.SERVICES, riva.add),
)


def grpc_interfaces(names: Iterable[str]) -> list[GrpcInterface]:
    """Those of `names` that are gRPC services."""
    chosen = set(names)
    return [interface for interface in _ALL if interface.name in chosen]
