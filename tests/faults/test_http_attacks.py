"""Anonymous callers over HTTP who want the server's memory or time: it stays within its limits."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from support.http_calls import ask, head, opened, posted
from support.server_process import ServerProcess, server_process
from support.waiting import PATIENCE

TRANSLATE = "/v1/translate"
LIMITS = (
    "--max-connections", "200", "--max-calls", "100", "--max-message-mib", "1", "--message-memory-mib", "8",
    "--call-memory-mib", "32",
)  # fmt: skip
HONEST = 10
"""Calls of another client during an attack."""
ALLOWED_MIB = 8 + 32 + 200 * 0.4 + 60
"""Bodies, calls, buffers of connections, and what the allocator keeps."""


def resident_mib(server: ServerProcess) -> float:
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[ServerProcess]:
    # Clients are told apart by a header: all connections of a test come from one address.
    with server_process([bundle], "--http-port", "0", "--client-header", "x-client", *LIMITS) as running:
        yield running


def idle(server: ServerProcess, stack: ExitStack) -> None:
    """Connections that say nothing, or half of a head."""
    for number in range(300):
        connection = stack.enter_context(opened(server.url))
        with suppress(ConnectionError):
            connection.sendall((b"", b"POST /trans", head(TRANSLATE, "x-client: attacker"))[number % 3])


def endless(server: ServerProcess, stack: ExitStack) -> None:
    """Bodies that do not end, as fast as they are taken."""
    stopping = threading.Event()
    stack.callback(stopping.set)

    def send(connection: socket.socket) -> None:
        with suppress(OSError):
            connection.sendall(head(TRANSLATE, "x-client: attacker", "transfer-encoding: chunked") + b"\r\n")
            while not stopping.is_set():
                connection.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")

    for _ in range(30):
        connection = stack.enter_context(opened(server.url))
        threading.Thread(target=send, args=(connection,), daemon=True).start()


def unfinished(server: ServerProcess, stack: ExitStack) -> None:
    """Bodies that lack their last byte."""
    for _ in range(150):
        connection = stack.enter_context(opened(server.url))
        with suppress(OSError):
            connection.settimeout(0.05)
            connection.sendall(
                head(TRANSLATE, "x-client: attacker", "content-length: 1000000") + b"\r\n" + b"x" * 999_999
            )


def deep(server: ServerProcess, stack: ExitStack) -> None:
    """Values of JSON that take much more memory than their bytes."""
    for body in (b'{"a":' * 170_000, b"[" + b"{}," * 340_000 + b"{}]", b'{"texts": [' + b'"",' * 250_000 + b'""]}'):
        for _ in range(10):
            connection = stack.enter_context(opened(server.url))
            with suppress(OSError):
                connection.settimeout(1)
                connection.sendall(
                    head(TRANSLATE, "x-client: attacker", f"content-length: {len(body)}") + b"\r\n" + body
                )


def unread(server: ServerProcess, stack: ExitStack) -> None:
    """Answers that nobody reads, of requests that follow each other."""
    for _ in range(100):
        connection = stack.enter_context(opened(server.url))
        with suppress(OSError):
            connection.settimeout(0.05)
            connection.sendall(posted(TRANSLATE, {"texts": ["a b c"] * 20}, "x-client: attacker") * 100)


SLOW = [pytest.param(attack, marks=pytest.mark.slow) for attack in (unfinished, deep, unread)]


@pytest.mark.parametrize("attack", [idle, endless, *SLOW])
def test_others_are_answered_and_memory_is_bounded(
    server: ServerProcess, attack: Callable[[ServerProcess, ExitStack], None]
) -> None:
    before = resident_mib(server)
    slowest = 0.0
    with ExitStack() as stack:
        attack(server, stack)
        for _ in range(HONEST):
            started = time.monotonic()
            assert ask(server.url + TRANSLATE, {"texts": ["a b"]}, {"x-client": "honest"}).status == 200
            slowest = max(slowest, time.monotonic() - started)
    more = resident_mib(server) - before
    print(f"{attack.__name__}: {more:.0f} MiB more, of {ALLOWED_MIB:.0f} allowed; slowest honest call {slowest:.2f} s")
    assert more < ALLOWED_MIB
    assert slowest < PATIENCE / 2
