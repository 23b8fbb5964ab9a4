"""A server under supervisord, which restarts it whenever it ends."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.fleet import Backend
from support.ports import free_ports
from support.server_process import START_SECONDS, dragoman
from support.waiting import wait_until

SUPERVISORD = shutil.which(
    "supervisord", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
)

_CONFIG = """\
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
[program:dragoman]
command = {command}
autorestart = true
startsecs = 0
stopwaitsecs = 60
stdout_logfile = {folder}/stdout
stderr_logfile = {folder}/stderr
"""


@dataclass
class Supervised:
    """A server under supervisord."""

    backend: Backend
    folder: Path

    @property
    def pids(self) -> list[int]:
        """The ids of its processes so far."""
        return [int(pid) for pid in re.findall(r"spawned: 'dragoman' with pid (\d+)", self.log)]

    @property
    def log(self) -> str:
        """The log of supervisord."""
        file = self.folder / "supervisord.log"
        return file.read_text() if file.exists() else ""

    @property
    def errors(self) -> str:
        """The standard error of its processes."""
        file = self.folder / "stderr"
        return file.read_text() if file.exists() else ""

    def kill(self) -> None:
        """Kill the current process, as the kernel does when memory runs out."""
        os.kill(self.pids[-1], signal.SIGKILL)

    def wait_until_ready(self, process: int) -> None:
        """Wait until its `process`-th process, counted from 1, is ready."""
        wait_until(lambda: len(self.pids) >= process and self._ready(), self._state, START_SECONDS)

    def _ready(self) -> bool:
        try:
            url = f"http://127.0.0.1:{self.backend.metrics_port}/ready"
            with urllib.request.urlopen(url, timeout=START_SECONDS):
                return True
        except (urllib.error.URLError, ConnectionError):
            return False

    def _state(self) -> str:
        return self.log + self.errors


@contextmanager
def supervised(folder: Path, bundle: Path, *options: str, before: Sequence[str] = ()) -> Iterator[Supervised]:
    """Run a server, with the command prefix `before`. It is stopped in order at the end."""
    assert SUPERVISORD is not None
    backend = Backend(*free_ports(2))
    ports = ("--port", str(backend.port), "--metrics-port", str(backend.metrics_port), "--threads", "1")
    command = shlex.join([*before, *dragoman("serve", bundle, *ports, *options)]).replace("%", "%%")
    config = folder / "supervisord.conf"
    config.write_text(_CONFIG.format(folder=folder, command=command))
    running = Supervised(backend, folder)
    with (folder / "supervisord.out").open("wb") as output:
        process = subprocess.Popen([SUPERVISORD, "-c", str(config)], stdout=output, stderr=output)
        try:
            running.wait_until_ready(1)
            yield running
        finally:
            process.terminate()
            process.wait(START_SECONDS)
