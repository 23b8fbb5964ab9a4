"""What a server process does, if it is one of several that are a server together."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.server.access.quotas import Quotas


@dataclass(frozen=True, slots=True)
class Part:
    """Of a server; the defaults are all of it."""

    answers: bool = True
    """Whether it listens on the gRPC port."""
    alone: bool = True
    """Whether nobody else listens on that port, and the pages are served by this process."""
    registry: ModelRegistry | None = None
    """The models, if they are shared."""
    quotas: Quotas | None = None
    """The quotas, if they are shared."""
    others_idle: Callable[[], Awaitable[None]] | None = None
    """Waits, at the end, until the other processes have no calls either: until then, new ones get an answer."""


WHOLE = Part()
