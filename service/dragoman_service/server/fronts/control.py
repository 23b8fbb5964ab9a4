"""The connection between the supervisor and each of its processes: pickled messages over a socket."""

from __future__ import annotations

import asyncio
import logging
import pickle
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

from dragoman_service.server.access.tokens import Token
from dragoman_service.server.http_pages import Condition
from dragoman_service.server.settings import ServiceConfig

_LENGTH = struct.Struct("<I")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message to a process: what it is."""

    name: str
    """`engine`, or `front 1`."""
    config: ServiceConfig
    log_level: str


@dataclass(frozen=True, slots=True)
class Ready:
    """A process serves."""

    models: tuple[str, ...] = ()
    """A summary of each; the engine process has them."""


@dataclass(frozen=True, slots=True)
class Unable:
    """A process cannot start."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Stop:
    """A process is to stop in order."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A front that is to stop has no calls any more; sent to the fronts, no front has."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """A process is asked for its metrics."""

    number: int


@dataclass(frozen=True, slots=True)
class Family:
    """A metric with its samples."""

    name: str
    help: str
    kind: str
    samples: tuple[tuple[str, tuple[tuple[str, str], ...], float], ...]
    """Name, sorted labels and value."""


@dataclass(frozen=True, slots=True)
class Scraped:
    """Answers Scrape."""

    number: int
    families: tuple[Family, ...]


@dataclass(frozen=True, slots=True)
class Take:
    """A front asks whether the quotas of a token admit a call."""

    number: int
    token: Token
    characters: int


@dataclass(frozen=True, slots=True)
class Taken:
    """Answers Take."""

    number: int
    error: Exception | None = None
    """Why the call is not admitted."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What was taken comes back."""

    number: int
    """That of Take."""
    unused: bool
    """Whether the call counts as if it had not been made."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The tokens that a front knows."""

    tokens: tuple[Token, ...] = field(default=())


Message: TypeAlias = Ready | Unable | Stop | Idle | Scrape | Scraped | Take | Taken | Returned | Keep | Condition


def write_setup(end: socket.socket, setup: Setup) -> None:
    """Send the first message; it fits into the socket."""
    end.sendall(_frame(setup))


def read_setup(end: socket.socket) -> Setup:
    """Read the first message. Raises EOFError if the supervisor has ended."""
    size = _LENGTH.unpack(_exactly(end, _LENGTH.size))[0]
    return cast(Setup, pickle.loads(_exactly(end, size)))


def write(end: socket.socket, message: Message) -> None:
    """Send a message before there is an event loop."""
    end.setblocking(True)
    end.sendall(_frame(message))


class Control(asyncio.Protocol):
    """One end of the connection, on an event loop."""

    def __init__(self, on_message: Callable[[Any], None], on_closed: Callable[[], None]) -> None:
        self._on_message = on_message
        self._on_closed = on_closed
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def over(
        cls, end: socket.socket, on_message: Callable[[Any], None], on_closed: Callable[[], None]
    ) -> Control:
        """Use a socket, which the event loop closes at the end."""
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, control = await loop.create_unix_connection(lambda: cls(on_message, on_closed), sock=end)
        return control

    def send(self, message: Message) -> None:
        """Send a message; it is dropped if the other end is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(_frame(message))

    def close(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._on_closed()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        buffer = self._buffer
        buffer += data
        while len(buffer) >= _LENGTH.size:
            end = _LENGTH.size + _LENGTH.unpack_from(buffer)[0]
            if len(buffer) < end:
                return
            message = pickle.loads(memoryview(buffer)[_LENGTH.size : end].tobytes())
            del buffer[:end]
            try:
                self._on_message(message)
            except Exception:
                _log.exception("a message between the server's processes could not be handled")


def _frame(message: Any) -> bytes:
    data = pickle.dumps(message, protocol=5)
    return _LENGTH.pack(len(data)) + data


def _exactly(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = end.recv(size - len(data))
        if not more:
            raise EOFError("the supervisor has ended")
        data += more
    return data
