"""The application: the routes of all interfaces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as StarletteRoute

from dragoman_protos.metadata import REQUEST_ID_KEY
from dragoman_service.server.http.asgi import App, Receive, Scope, Send
from dragoman_service.server.http.bounded import Bounded
from dragoman_service.server.http.endpoint import Endpoint, HttpInterface, Page, Service
from dragoman_service.server.http.page.routes import page_routes
from dragoman_service.server.http.v1 import V1

_EXPOSED = (REQUEST_ID_KEY, "retry-after")
_CODES = {404: 5, 405: 12}
"""Status of HTTP -> code of google.rpc."""


def application(
    service: Service, interfaces: Iterable[HttpInterface], origins: Sequence[str], *, with_page: bool
) -> App:
    """The routes of `dragoman.v1` and of `interfaces`.

    Args:
        service: Answers the requests.
        interfaces: Those of others.
        origins: Of the websites whose pages may use the routes; `*` is every one.
        with_page: Whether there is the page for people.
    """
    routes = page_routes(service) if with_page else []
    for interface in (V1, *interfaces):
        allowed = ("*",) if interface.any_origin else origins
        for route in interface.routes:
            endpoint = _for_pages(Endpoint(service, interface, route), allowed)
            verbs = [*route.verbs, "OPTIONS"]
            routes += [StarletteRoute(path, endpoint, methods=verbs) for path in route.paths]
        for page in interface.pages:
            answer = _for_pages(Bounded(_page(service, page), service.write_seconds), allowed)
            routes.append(StarletteRoute(page.path, answer, methods=[page.verb, "OPTIONS"]))
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})


def _for_pages(endpoint: App, origins: Sequence[str]) -> App:
    """Let pages of these websites use an endpoint."""
    return CORSMiddleware(
        endpoint, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=_EXPOSED
    )


def _page(service: Service, page: Page) -> App:
    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        answer = page.answer(service)
        await JSONResponse(answer.content, answer.status)(scope, receive, send)

    return respond


async def _no_route(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    content = {"code": _CODES.get(error.status_code, 2), "message": error.detail}
    return JSONResponse(content, error.status_code, error.headers)
