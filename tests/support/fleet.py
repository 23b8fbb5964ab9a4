"""Servers that can be stopped and restarted at the same addresses."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from support.ports import free_ports
from support.server_process import START_SECONDS, ServerProcess, server_process


@dataclass(frozen=True)
class Backend:
    """The ports of a server."""

    port: int
    metrics_port: int

    @property
    def name(self) -> str:
        return f"s{self.port}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"


class Fleet:
    """A context manager that runs `size` servers of one bundle; all are ready when it is entered."""

    def __init__(self, bundle: Path, size: int, *options: str) -> None:
        self._bundle = bundle
        self._options = options
        ports = free_ports(2 * size)
        self.backends = [Backend(*ports[index : index + 2]) for index in range(0, 2 * size, 2)]
        self.restarts = 0
        self._running: dict[Backend, tuple[ServerProcess, ExitStack]] = {}

    def start(self, backend: Backend) -> None:
        """Start a server at an address and wait until it is ready."""
        stack = ExitStack()
        ports = ("--port", str(backend.port), "--metrics-port", str(backend.metrics_port))
        server = stack.enter_context(server_process([self._bundle], *ports, *self._options))
        self._running[backend] = (server, stack)

    def server(self, backend: Backend) -> ServerProcess:
        """The server that runs at an address."""
        return self._running[backend][0]

    def stop(self, backend: Backend) -> None:
        """Stop a server by SIGTERM and check that it ends without errors."""
        server, stack = self._running.pop(backend)
        with stack:
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(START_SECONDS) == 0
            assert server.errors == []

    def restart(self, backend: Backend) -> None:
        """Stop a server and start it again."""
        self.stop(backend)
        self.start(backend)
        self.restarts += 1

    def __enter__(self) -> Fleet:
        try:
            for backend in self.backends:
                self.start(backend)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        for _, running in self._running.values():
            running.close()
