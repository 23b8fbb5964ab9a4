"""The routes of the page."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import PurePath
from typing import TypeAlias

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dragoman_service.server.http.bounded import Bounded
from dragoman_service.server.http.endpoint import Service
from dragoman_service.text.markup.documents import SUFFIXES

_Endpoint: TypeAlias = Callable[[Request], Awaitable[Response]]

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    # Browsers ask each time whether a file has changed, so that after an upgrade all files are of one version.
    "cache-control": "no-cache",
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_INDEX = "index.html"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript"}


def page_routes(service: Service) -> list[Route]:
    """The page at `/`, and its files and settings below `/page/`."""
    endpoints = {"/page/settings.json": _settings(service)}
    for file in (files(__package__) / "files").iterdir():
        path = "/" if file.name == _INDEX else f"/page/{file.name}"
        endpoints[path] = _file(file.read_bytes(), _TYPES[PurePath(file.name).suffix])
    bounded = [Middleware(Bounded, seconds=service.write_seconds)]
    return [Route(path, endpoint, middleware=bounded) for path, endpoint in endpoints.items()]


def _file(content: bytes, media_type: str) -> _Endpoint:
    """Answers with a file, unless the browser has it already."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "etag": tag}

    async def respond(request: Request) -> Response:
        if tag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=media_type)

    return respond


def _settings(service: Service) -> _Endpoint:
    """Answers with what the page cannot know."""

    async def respond(request: Request) -> Response:
        # Behind a proxy, the page is at another port, and the port of the metrics is most likely out of reach.
        _, own_port = request.scope["server"]
        metrics_port = service.metrics_port() if request.url.port == own_port else 0
        limits = {"suffixes": SUFFIXES, "maxBytes": service.documents.max_bytes}
        return JSONResponse({"metricsPort": metrics_port, "documents": limits}, headers=_HEADERS)

    return respond
