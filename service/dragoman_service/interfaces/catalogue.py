"""The interfaces of others that are gRPC services."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dragoman_service.interfaces.backend import Backend, Methods


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


_ALL: tuple[GrpcInterface, ...] = ()


def grpc_interfaces(names: Iterable[str]) -> list[GrpcInterface]:
    """Those of `names` that are gRPC services."""
    chosen = set(names)
    return [interface for interface in _ALL if interface.name in chosen]
