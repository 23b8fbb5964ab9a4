"""Anonymous callers over HTTP who want the server's memory or time: it stays within its limits."""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from support.http_attackers import HTTP_ATTACKS
from support.http_calls import ask, head, opened, posted
from support.server_process import ServerProcess, server_process
from support.waiting import PATIENCE, wait_until

TRANSLATE = "/v1/translate"
LIMITS = (
    "--max-connections", "200", "--max-calls", "100", "--max-message-mib", "1", "--message-memory-mib", "8",
    "--call-memory-mib", "32",
)  # fmt: skip
HONEST = 10
"""Calls of another client during an attack."""
SECONDS = 10
"""How long the attacks go on that have no end."""
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
    with unharmed(server, attack.__name__), ExitStack() as stack:
        attack(server, stack)
        honest_calls(server)


# Ten thousand connections that come back every second are more than two hundred places let through.
@pytest.mark.slow
@pytest.mark.parametrize("attack", [name for name in HTTP_ATTACKS if name != "idle_connections"])
def test_attacks_that_go_on(server: ServerProcess, attack: str) -> None:
    """Those of tests/load/siege.py, for some seconds each."""
    address = server.url.partition("://")[2]
    attacker = multiprocessing.get_context("spawn").Process(target=HTTP_ATTACKS[attack], args=(address, "attacker"))
    with unharmed(server, attack):
        attacker.start()
        try:
            ends = time.monotonic() + SECONDS
            while time.monotonic() < ends:
                honest_calls(server)
            assert attacker.is_alive()
        finally:
            attacker.kill()
            attacker.join()
    wait_until(lambda: server.metrics()["dragoman_requests_running"] == 0)
    server.wait_until_free()


def honest_calls(server: ServerProcess) -> None:
    """Calls of another client, one after the other."""
    for _ in range(HONEST):
        started = time.monotonic()
        assert ask(server.url + TRANSLATE, {"texts": ["a b"]}, {"x-client": "honest"}).status == 200
        assert time.monotonic() - started < PATIENCE / 2


@contextmanager
def unharmed(server: ServerProcess, attack: str) -> Iterator[None]:
    """A context in which the memory of the server stays bounded."""
    before, started = resident_mib(server), time.monotonic()
    yield
    more, seconds = resident_mib(server) - before, time.monotonic() - started
    print(f"{attack}: {more:.0f} MiB more, of {ALLOWED_MIB:.0f} allowed, in {seconds:.0f} s")
    assert more < ALLOWED_MIB
