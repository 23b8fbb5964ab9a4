"""The interfaces of others that are routes of HTTP."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_service.server.http import deepl, google, libretranslate
from dragoman_service.server.http.endpoint import HttpInterface

_ALL: tuple[HttpInterface, ...] = (libretranslate.INTERFACE, google.V2, google.V3, deepl.INTERFACE)


def http_interfaces(names: Iterable[str]) -> list[HttpInterface]:
    """Those of `names` that are routes of HTTP."""
    chosen = set(names)
    return [interface for interface in _ALL if interface.name in chosen]
