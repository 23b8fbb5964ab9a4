"""As much of HTTP/2 (RFC 9113) as it takes to send frames that no library would: see `connection` and `frame`."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
HELLO = PREFACE + bytes(3) + bytes([SETTINGS]) + bytes(5)
"""What a client begins with: the preface, and settings that leave all as it is."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame; its length is that of the payload."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def header_block(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Headers as literals that nobody remembers (RFC 7541, section 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in headers)


def call_headers(path: str, *more: tuple[bytes, bytes]) -> bytes:
    """The headers of a gRPC call, as a block."""
    pseudo = ((b":method", b"POST"), (b":scheme", b"http"), (b":path", path.encode()), (b":authority", b"localhost"))
    return header_block((*pseudo, (b"content-type", b"application/grpc"), (b"te", b"trailers"), *more))


def message(data: bytes, *, length: int | None = None, compressed: int = 0) -> bytes:
    """A gRPC message, of which the length and the mark of compression may be a lie."""
    return bytes([compressed]) + (len(data) if length is None else length).to_bytes(4, "big") + data


@contextmanager
def connection(address: str) -> Iterator[socket.socket]:
    """A TCP connection to `host:port`."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as opened:
        yield opened


def frames(opened: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    """Kind, stream and payload of the frames that arrive. Settings and pings are acknowledged."""
    while len(head := opened.recv(9, socket.MSG_WAITALL)) == 9:
        length, kind, flags, stream = int.from_bytes(head[:3], "big"), head[3], head[4], int.from_bytes(head[5:], "big")
        payload = opened.recv(length, socket.MSG_WAITALL) if length else b""
        if kind in (SETTINGS, PING) and not flags & ACK:
            opened.sendall(frame(kind, ACK, 0, payload if kind == PING else b""))
        yield kind, stream, payload


def say(address: str, data: bytes, patience: float) -> bytes:
    """Send bytes, and read until a call has its status, nothing comes for `patience` seconds, or it is closed."""
    heard = b""
    with suppress(OSError), connection(address) as opened:
        opened.sendall(data)
        opened.settimeout(patience)
        while b"grpc-status" not in heard and (part := opened.recv(65536)):
            heard += part
    return heard


def _string(data: bytes) -> bytes:
    """Its length with a prefix of 7 bits (RFC 7541, section 5.1), and itself."""
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, encoded = len(data) - 127, bytearray([127])
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    return bytes([*encoded, rest]) + data
