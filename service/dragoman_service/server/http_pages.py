"""HTTP pages on the metrics port: the metrics for Prometheus, and `/ready` and `/live` for health checks."""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import choose_encoder

from dragoman_service.repository.worker import Worker

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

_CONNECTION_SECONDS = 5.0
"""Seconds that a connection has in all, however it spends them."""
_LINGER_SECONDS = 1.0
"""Seconds that a caller has to close an answered connection. Closed at once, it would lose the answer if bytes of the
request are unread."""
_MOST_CONNECTIONS = 256
"""Most open connections. A further one closes the oldest: who asks a page has its answer long before."""
_QUEUE = 128
"""Connections that wait to be accepted. They must be fewer than the above, as all of them are accepted at once."""
_LONGEST_REQUEST = 16 * 1024

_METRICS = "/metrics"
_READY = ("/ready", "/readyz")
_LIVE = ("/live", "/livez", "/healthz")
_LIST = "pages: {}\n".format(" ".join((_METRICS, *_READY, *_LIVE)))

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Condition:
    """State of a server for load balancers and supervisors."""

    not_ready: str = ""
    """Why the server should get no new calls; empty if it should get them."""
    not_alive: str = ""
    """Why the server must be restarted; empty if it need not be."""


@dataclass(frozen=True, slots=True)
class _Request:
    method: str
    path: str
    query: str
    headers: http.client.HTTPMessage

    @property
    def accept(self) -> str:
        """The header Accept on one line: a part of it may be in the answer's headers."""
        return " ".join(self.headers.get("Accept", "").split())


@dataclass(frozen=True, slots=True)
class _Answer:
    status: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/plain; charset=utf-8"),)

    def encoded(self, *, body: bool) -> bytes:
        """The bytes to send, without the body for HEAD."""
        always = (("Content-Length", str(len(self.body))), ("Date", formatdate(usegmt=True)), ("Connection", "close"))
        lines = [f"HTTP/1.1 {self.status}", *(f"{name}: {value}" for name, value in (*self.headers, *always))]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (self.body if body else b"")


class PagesServer:
    """Serves the pages with an event loop of its own, so that they answer even if that of gRPC is blocked.

    The number of threads is fixed. A slow connection costs no thread, and one page does not wait for the other.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, condition: Callable[[], Condition]) -> None:
        """Start to listen. Raises OSError if the address is not available."""
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]
        """The port that the server listens on."""
        self._metrics = make_wsgi_app(registry)
        self._condition = condition
        self._metrics_thread, self._condition_thread = Worker("dragoman-metrics"), Worker("dragoman-condition")
        self._open: dict[asyncio.StreamWriter, None] = {}
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_log_quietly)
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="dragoman-pages", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening. Blocks for a moment. May be called again."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join()
        self._metrics_thread.close()
        self._condition_thread.close()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connected, sock=self._socket, limit=_LONGEST_REQUEST, backlog=_QUEUE)
        await self._ended.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = None
        if len(self._open) > _MOST_CONNECTIONS:
            oldest = next(iter(self._open))
            del self._open[oldest]
            oldest.transport.abort()
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits until all is sent
        try:
            async with asyncio.timeout(_CONNECTION_SECONDS):
                await self._answer(reader, writer)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            _log.debug("a connection to the pages ended early: %r", error)
        finally:
            self._open.pop(writer, None)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = _parse(await reader.readuntil(b"\r\n\r\n"))
        except asyncio.LimitOverrunError:
            request = None
        refusal = _text(HTTPStatus.BAD_REQUEST, "no request of HTTP/1\n")
        answer = await self._page_or_error(request) if request else refusal
        writer.write(answer.encoded(body=request is None or request.method != "HEAD"))
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(_LINGER_SECONDS):
            while await reader.read(_LONGEST_REQUEST):
                pass

    async def _page_or_error(self, request: _Request) -> _Answer:
        try:
            return await self._page(request)
        except Exception:
            _log.exception("the page %s failed", request.path)  # the path of a page, not of the caller
            return _text(HTTPStatus.INTERNAL_SERVER_ERROR, "the page failed; the server's log has the reason\n")

    async def _page(self, request: _Request) -> _Answer:
        if request.method not in ("GET", "HEAD"):
            refusal = _text(HTTPStatus.METHOD_NOT_ALLOWED, "pages are read with GET or HEAD\n")
            return _Answer(refusal.status, refusal.body, (*refusal.headers, ("Allow", "GET, HEAD")))
        if request.path == _METRICS:
            try:
                choose_encoder(request.accept)
            except Exception:  # depends on the header alone
                return _text(HTTPStatus.BAD_REQUEST, "Accept: a version is no numbers with dots between them\n")
            job = self._metrics_thread.submit(lambda: _metrics_page(self._metrics, request))
            return await asyncio.wrap_future(job)
        if request.path in (*_READY, *_LIVE):
            condition = await asyncio.wrap_future(self._condition_thread.submit(self._condition))
            problem, good = (condition.not_ready, "ready") if request.path in _READY else (condition.not_alive, "alive")
            return _text(HTTPStatus.SERVICE_UNAVAILABLE if problem else HTTPStatus.OK, f"{problem or good}\n")
        return _text(HTTPStatus.OK if request.path == "/" else HTTPStatus.NOT_FOUND, _LIST)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. `::` is every address of IPv4 too, as it is for gRPC."""
    family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
    return socket.create_server((host, port), family=family, backlog=_QUEUE, dualstack_ipv6=both)


def _parse(head: bytes) -> _Request | None:
    """Request line and headers; None if they are not of HTTP/1."""
    line, _, rest = head.partition(b"\r\n")
    try:
        method, target, version = line.decode("ascii").split(" ")
        url = urlsplit(target)
        headers = http.client.parse_headers(io.BytesIO(rest))
    except (ValueError, http.client.HTTPException):
        return None
    return _Request(method, url.path, url.query, headers) if version.startswith("HTTP/1.") else None


def _metrics_page(app: WSGIApplication, request: _Request) -> _Answer:
    """The page of the Prometheus client, which knows formats, compression and chosen names."""
    begun: list[Any] = []
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": request.path,
        "QUERY_STRING": request.query,
        "HTTP_ACCEPT": request.accept,
        "HTTP_ACCEPT_ENCODING": request.headers.get("Accept-Encoding", ""),
    }
    body = b"".join(app(environ, lambda *start: begun.extend(start)))  # type: ignore[arg-type]
    status, headers = begun
    return _Answer(status, body, tuple(headers))


def _text(status: HTTPStatus, text: str) -> _Answer:
    return _Answer(f"{status.value} {status.phrase}", text.encode())


def _log_quietly(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Callers cause what goes wrong here, such as a lack of file descriptors. asyncio would log it as errors."""
    _log.debug("a connection to the pages failed: %s", context.get("message"), exc_info=context.get("exception"))
