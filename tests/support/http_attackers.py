"""Attacks on a server over HTTP, each of which goes on until its process is killed. Arguments: address, client.

The address is that of HTTP, HOST:PORT.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress

from support.http_calls import head, posted

TRANSLATE, STREAM = "/v1/translate", "/v1/translate/stream"
CONNECTIONS = 300
IDLE_CONNECTIONS = 10_000
"""As many, or as the system allows this process."""
_SPARE_DESCRIPTORS = 100

Act = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What is done with a connection."""


def slow_heads(address: str, client: str) -> None:
    """Heads that come a byte a second."""
    _repeat(address, lambda _, writer: _drip(writer, head(TRANSLATE, f"x-client: {client}", "a: b" * 100)))


def slow_bodies(address: str, client: str) -> None:
    """Bodies that come a byte a second."""
    begun = head(TRANSLATE, f"x-client: {client}", "content-length: 100000") + b"\r\n"

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        await _drip(writer, b" " * 100_000)

    _repeat(address, act)


def unread_answers(address: str, client: str) -> None:
    """Large answers that nobody reads, of requests that follow each other."""
    request = posted(TRANSLATE, {"texts": ["a b c"] * 50}, f"x-client: {client}")
    _repeat(address, lambda _, writer: _unread(writer, request * 50), connections=100)


def unread_events(address: str, client: str) -> None:
    """Streams of events that nobody reads."""
    request = posted(STREAM, {"text": "The cat reads a book. " * 2000}, f"x-client: {client}")
    _repeat(address, lambda _, writer: _unread(writer, request), connections=100)


def idle_connections(address: str, client: str) -> None:
    """Ten thousand connections that say nothing, and new ones in the place of those that are closed."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    count = min(IDLE_CONNECTIONS, most - _SPARE_DESCRIPTORS)

    async def act(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    _repeat(address, act, connections=count, pause=1.0)


def huge_heads(address: str, client: str) -> None:
    """Heads of many megabytes, as fast as they are taken."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(TRANSLATE, f"x-client: {client}"))
        while True:
            writer.write(b"x-more: " + b"x" * 8_000 + b"\r\n")
            await writer.drain()

    _repeat(address, act, connections=50)


def endless_bodies(address: str, client: str) -> None:
    """Chunked bodies without an end, as fast as they are taken."""

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head(TRANSLATE, f"x-client: {client}", "transfer-encoding: chunked") + b"\r\n")
        while True:
            writer.write(b"1000\r\n" + b"x" * 4096 + b"\r\n")
            await writer.drain()

    _repeat(address, act, connections=50)


def pipelined_requests(address: str, client: str) -> None:
    """Thousands of small requests that do not wait for each other's answers."""
    requests = head("/v1/models", f"x-client: {client}", verb="GET") + b"\r\n"

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(requests * 5_000)
        while await reader.read(65_536):
            pass

    _repeat(address, act, connections=20)


def resets(address: str, client: str) -> None:
    """Connections that are reset in the middle of a body, or while their translation runs."""
    whole = posted(TRANSLATE, {"texts": ["The cat reads a book."] * 5}, f"x-client: {client}")

    async def act(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for sent in (whole[:-10], whole):
            writer.write(sent)
            await asyncio.sleep(0.05)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    _repeat(address, act, connections=50)


def heavy_requests(address: str, client: str) -> None:
    """The widest beams, the most hypotheses, the longest translations."""
    options = {"beamSize": 16, "numHypotheses": 16, "minLength": 100}
    request = posted(TRANSLATE, {"texts": ["yes\n" * 19] * 1000, "options": options}, f"x-client: {client}")

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                await reader.read(1)

    _repeat(address, act, connections=20)


def deep_values(address: str, client: str) -> None:
    """Values of JSON that take much more memory than their bytes."""
    bodies = [b'{"a":' * 170_000, b"[" + b"{}," * 340_000 + b"{}]", json.dumps({"texts": [""] * 250_000}).encode()]
    requests = [head(TRANSLATE, f"x-client: {client}", f"content-length: {len(it)}") + b"\r\n" + it for it in bodies]

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for request in requests:
            writer.write(request)
            await reader.readuntil(b"\r\n\r\n")

    _repeat(address, act, connections=10)


async def _drip(writer: asyncio.StreamWriter, data: bytes) -> None:
    for number in range(len(data)):
        writer.write(data[number : number + 1])
        await writer.drain()
        await asyncio.sleep(1)


async def _unread(writer: asyncio.StreamWriter, data: bytes) -> None:
    transport = writer.transport
    assert isinstance(transport, asyncio.Transport)
    transport.pause_reading()
    writer.write(data)
    await asyncio.sleep(20)


def _repeat(address: str, act: Act, connections: int = CONNECTIONS, pause: float = 0.05) -> None:
    """Keep so many connections open; each is opened anew when it is over."""
    host, _, port = address.rpartition(":")

    async def keep() -> None:
        while True:
            with suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection(host, int(port))
                try:
                    await act(reader, writer)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(pause)

    async def run() -> None:
        await asyncio.gather(*(keep() for _ in range(connections)))

    asyncio.run(run())


HTTP_ATTACKS: dict[str, Callable[[str, str], None]] = {
    attack.__name__: attack
    for attack in (
        slow_heads, slow_bodies, unread_answers, unread_events, idle_connections, huge_heads, endless_bodies,
        pipelined_requests, resets, heavy_requests, deep_values,
    )
}  # fmt: skip
