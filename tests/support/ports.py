"""Ports for servers that come back to the same address."""

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
    """Ports that nobody has now. They are none of those from which connections go out: while a server is away, such a
    connection could take its port.
    """
    global _given  # noqa: PLW0603 - no port is given twice by one process
    if _given is None:
        below = int(_RANGE.read_text().split()[0]) if _RANGE.exists() else 32_768
        _given = itertools.count(10_000 + os.getpid() * 37 % max(1, below - 12_000))
    return list(itertools.islice(filter(_is_free, _given), count))


def wait_until_listening(port: int, seconds: float = 60) -> None:
    """Until somebody accepts connections there."""
    limit = time.monotonic() + seconds
    while _is_free(port) or not _accepts(port):
        assert time.monotonic() < limit, f"nobody listens on port {port}"
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
