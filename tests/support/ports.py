"""Ports for servers that are restarted at the same address."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_given: Iterator[int] | None = None


def free_ports(count: int) -> list[int]:
    """Return ports that are free.

    They are outside the range of outgoing connections, because such a connection could take the port of a server while
    the server is stopped.
    """
    global _given  # noqa: PLW0603 - a process returns no port twice
    if _given is None:
        below = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
        _given = itertools.count(10_000 + os.getpid() * 37 % max(1, below - 12_000))
    return list(itertools.islice(filter(_is_free, _given), count))


def wait_until_listening(port: int, seconds: float = 60) -> None:
    """Wait until a process accepts connections on a port."""
    limit = time.monotonic() + seconds
    while _is_free(port) or not _accepts(port):
        assert time.monotonic() < limit, f"no process listens on port {port}"
        time.sleep(0.05)


def _accepts(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10):
        return True
    return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
