"""HTTP pages on the metrics port: the metrics for Prometheus, and `/ready` and `/live` for health checks."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication


_NO_DESCRIPTORS_SECONDS = 0.2

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Condition:
    """State of a server for load balancers and supervisors."""

    not_ready: str = ""
    """Why the server should get no new calls; empty if it should get them."""
    not_alive: str = ""
    """Why the server must be restarted; empty if it need not be."""


class PagesServer:
    """Serves the pages on separate threads, so that they answer even if the event loop is blocked."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry, condition: Callable[[], Condition]) -> None:
        """Start to listen. Raises OSError if the address is not available."""
        self._server = make_server(host, port, _pages(registry, condition), _server_class(host), _SilentHandler)
        threading.Thread(target=self._server.serve_forever, name="dragoman-pages", daemon=True).start()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._server.server_port

    def close(self) -> None:
        """Stop listening. Blocks for a moment."""
        self._server.shutdown()
        self._server.server_close()


def _pages(registry: CollectorRegistry, condition: Callable[[], Condition]) -> WSGIApplication:
    metrics = make_wsgi_app(registry)

    def page(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/ready":
            return _status_page(condition().not_ready, "ready", start_response)
        if environ["PATH_INFO"] == "/live":
            return _status_page(condition().not_alive, "alive", start_response)
        answer: Iterable[bytes] = metrics(environ, start_response)
        return answer

    return page


def _status_page(problem: str, good: str, start_response: StartResponse) -> list[bytes]:
    status = "503 Service Unavailable" if problem else "200 OK"
    start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [f"{problem or good}\n".encode()]


class _ThreadingServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection. Without free file descriptors it stays queued, so pause before the next attempt."""
        try:
            return super().get_request()
        except OSError:
            time.sleep(_NO_DESCRIPTORS_SECONDS)
            raise

    def handle_error(self, request: object, client_address: object) -> None:
        _log.debug("a connection to the pages from %s failed", client_address, exc_info=True)


def _server_class(host: str) -> type[WSGIServer]:
    """A server class for the address family of `host`: the default of `http.server` is IPv4 only."""
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    return type("_PagesServer", (_ThreadingServer,), {"address_family": family})


class _SilentHandler(WSGIRequestHandler):
    timeout = 10.0
    """Seconds after which a silent connection is closed, so that it does not hold a thread."""

    def log_message(self, *_: object) -> None:
        pass
