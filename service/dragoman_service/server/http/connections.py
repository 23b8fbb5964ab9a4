"""Connections of HTTP/1.1. uvicorn speaks the protocol; here are the limits that it lacks, and TLS.

uvicorn alone would keep a connection that sends nothing, or half a request, for ever.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import Callable
from functools import partial

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from dragoman_service.server.http.asgi import App
from dragoman_service.server.http.room import Room, Seat

HEAD_SECONDS = 10.0
"""Seconds for what comes before a body: the handshake of TLS, and the head of a request from its first byte."""
IDLE_SECONDS = 75.0
"""Seconds between the answer to a request and the next request. Proxies keep connections for a minute."""
HEAD_BYTES = 16_384
"""Largest head of a request that arrives in parts; at once, it may have twice as much."""
CONNECTION = "dragoman.connection"
"""Key of a request's `scope["state"]`: its `Connection`."""
BACKLOG = 128
"""Connections that wait to be accepted."""
_PAUSE = 0.1
"""Seconds without new connections when the process has no descriptors left."""

_log = logging.getLogger(__name__)
# It warns of what callers do: requests that are no HTTP, or ask for WebSockets.
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)


class Connection(H11Protocol):
    """A connection. Its seat has a time limit whenever it has no request, and may be lost until it has a whole one."""

    def __init__(self, seat: Seat, config: uvicorn.Config, state: ServerState) -> None:
        super().__init__(config, state, app_state={CONNECTION: self})
        self._seat = seat
        self._head_begun = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(transport)
        self._seat.abort = transport.abort
        self._seat.wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        self._seat.leave()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if not self._head_begun and (self.cycle is None or self.cycle.response_complete):
            self._head_begun = True
            self._seat.wait(HEAD_SECONDS)
        # h11 looks at the size of a head when it has taken what there is: up to 256 KiB at once.
        for start in range(0, len(data), HEAD_BYTES):
            if not self.transport.is_closing():
                super().data_received(data[start : start + HEAD_BYTES])

    def handle_events(self) -> None:
        """See H11Protocol: called whenever a request may have arrived."""
        before = self.cycle
        super().handle_events()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return
        if not cycle.more_body:
            self._seat.work()
        elif cycle is not before:
            self._seat.receive()

    def on_response_complete(self) -> None:
        """See H11Protocol."""
        self._head_begun = False
        self._seat.wait(HEAD_SECONDS if self.transport.is_closing() else IDLE_SECONDS)
        super().on_response_complete()
        self._unset_keepalive_if_required()  # that of uvicorn, which any byte would stop

    def shutdown(self) -> None:
        """Close the connection after the answer to its request, at once if it has none."""
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def peer_certificate(self) -> dict[str, object]:
        """The caller's certificate as `ssl.SSLSocket.getpeercert` returns it; empty if it has shown none."""
        return self.transport.get_extra_info("peercert") or {}

    def abort(self) -> None:
        """End the connection, whatever has not been sent."""
        self.transport.abort()


class Listener:
    """Accepts connections on a socket that listens, and answers their requests with an application."""

    def __init__(
        self, app: App, listening: socket.socket, max_connections: int, tls: Callable[[], ssl.SSLContext] | None
    ) -> None:
        """To be called on the event loop.

        Args:
            app: The application.
            listening: Is closed at the end.
            max_connections: Number of open connections at a time.
            tls: The context for the next connection; None: no TLS.
        """
        listening.setblocking(False)
        self.app = app
        """The application."""
        self._socket = listening
        self._tls = tls
        self._room = Room(max_connections)
        self._config = uvicorn.Config(
            app, http=Connection, ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False,
            server_header=False, date_header=False, interface="asgi3", h11_max_incomplete_event_size=HEAD_BYTES,
        )  # fmt: skip
        self._config.load()
        self._state = ServerState()
        self._opening: set[asyncio.Task[None]] = set()
        self.port: int = listening.getsockname()[1]
        """The port that it listens on."""
        self._accepting = asyncio.create_task(self._accept())

    async def stop(self, seconds: float) -> None:
        """Stop listening. Requests that are being answered have `seconds`."""
        self._accepting.cancel()
        await asyncio.wait((self._accepting,))
        self._socket.close()
        for connection in list(self._state.connections):
            connection.shutdown()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=seconds)
        self._room.clear()
        if self._state.tasks:  # their callers are gone now
            await asyncio.wait(self._state.tasks, timeout=1.0)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._socket)
            except OSError as error:
                _log.debug("a connection was not accepted: %s", error)
                await asyncio.sleep(_PAUSE)
                continue
            opening = asyncio.create_task(self._open(accepted))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)

    async def _open(self, accepted: socket.socket) -> None:
        """Make a connection of an accepted socket."""
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        seat = self._room.enter(task.cancel, HEAD_SECONDS)
        if seat is None:
            accepted.close()
            return
        # asyncio does so for sockets that say their protocol, which accepted ones do not. Without it, the second part
        # of an answer waits until the caller's system acknowledges the first, up to 40 ms.
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = partial(Connection, seat, self._config, self._state)
        context = self._tls() if self._tls else None
        try:
            await loop.connect_accepted_socket(
                connection, accepted, ssl=context, ssl_handshake_timeout=HEAD_SECONDS if context else None
            )
        except (OSError, asyncio.CancelledError) as error:
            _log.debug("a connection ended before its first request: %r", error)
            seat.leave()
            accepted.close()
