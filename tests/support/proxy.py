"""HAProxy and nginx in front of servers, as processes with configurations in a folder of the test."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.fleet import Backend
from support.ports import free_ports, wait_until_listening
from support.waiting import wait_until

HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

_HAPROXY = """\
global
    stats socket ipv4@127.0.0.1:{stats} level admin
defaults
    mode http
    timeout connect 5s
    timeout client 120s
    timeout server 120s
frontend grpc
    bind 127.0.0.1:{port} proto h2
    default_backend dragoman
backend dragoman
    balance roundrobin
    option httpchk GET /ready
"""
_CHECK = "check check-proto h1 inter 200ms fall 1 rise 1"
"""The metrics port needs HTTP/1; by default, checks use the protocol of calls. `default-server` cannot set it."""
_NGINX = """\
{user}
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log info;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream dragoman {{
{servers}
    }}
    server {{
        listen 127.0.0.1:{port} http2;
        location / {{
            grpc_pass grpc://dragoman;
            grpc_read_timeout 120s;
            grpc_next_upstream error timeout non_idempotent;
        }}
    }}
}}
"""


@dataclass
class HAProxy:
    """A running HAProxy."""

    port: int
    stats: int

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def is_up(self, backend: Backend) -> bool:
        """Whether new calls are sent to a server."""
        lines = [line.split(",") for line in self._ask("show stat").splitlines()]
        return any(line[1:2] == [backend.name] and line[17].startswith("UP") for line in lines)

    def wait_until_up(self, backend: Backend) -> None:
        """Wait until new calls are sent to a server."""
        wait_until(lambda: self.is_up(backend), lambda: self._ask("show stat"))

    def _ask(self, command: str) -> str:
        with socket.create_connection(("127.0.0.1", self.stats)) as connection, connection.makefile("rw") as file:
            file.write(f"{command}\n")
            file.flush()
            return file.read()


@contextmanager
def haproxy(folder: Path, backends: Sequence[Backend]) -> Iterator[HAProxy]:
    """Run HAProxy. It asks the metrics ports of the servers whether they are ready."""
    assert HAPROXY is not None
    port, stats = free_ports(2)
    lines = [f"    server {b.name} {b.address} proto h2 {_CHECK} port {b.metrics_port}" for b in backends]
    config = folder / "haproxy.cfg"
    config.write_text(_HAPROXY.format(port=port, stats=stats) + "\n".join(lines) + "\n")
    with _running([HAPROXY, "-db", "-f", str(config)], folder / "haproxy.log", port):
        yield HAProxy(port, stats)


@dataclass
class Nginx:
    """A running nginx."""

    port: int
    process: subprocess.Popen[bytes]
    folder: Path
    backends: Sequence[Backend]

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def errors(self) -> str:
        """The text of its log."""
        return (self.folder / "error.log").read_text()

    def configure(self, without: Collection[Backend] = ()) -> None:
        """Write a configuration in which the servers of `without` get no new calls."""
        servers = [f"server {b.address} max_fails=0{' down' if b in without else ''};" for b in self.backends]
        user = "user root;" if os.geteuid() == 0 else ""
        (self.folder / "nginx.conf").write_text(
            _NGINX.format(
                user=user, folder=self.folder, port=self.port, servers="\n".join(f"        {line}" for line in servers)
            )
        )

    def reload(self, without: Collection[Backend] = ()) -> None:
        """Change the configuration while nginx runs, and wait until new calls follow it."""
        self.configure(without)
        before = self.errors.count("start worker process ")
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.errors.count("gracefully shutting down") > 0, lambda: self.errors)
        wait_until(lambda: self.errors.count("start worker process ") > before, lambda: self.errors)


@contextmanager
def nginx(folder: Path, backends: Sequence[Backend]) -> Iterator[Nginx]:
    """Run nginx. It learns the state of the servers only from the calls that it sends."""
    assert NGINX is not None
    (port,) = free_ports(1)
    running = Nginx(port, None, folder, backends)  # type: ignore[arg-type]
    running.configure()
    command = [NGINX, "-p", str(folder), "-c", str(folder / "nginx.conf")]
    with _running(command, folder / "nginx.out", port) as running.process:
        yield running


@contextmanager
def _running(command: Sequence[str], log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            wait_until_listening(port)
            yield process
        finally:
            process.terminate()
            process.wait(60)
