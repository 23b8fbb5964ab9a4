"""Servers in separate processes, and the processor time and memory that they use."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

START_SECONDS = 120
"""Seconds after which a server that has not started is killed."""
_SAMPLE_SECONDS = 0.05
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    address: str
    """HOST:PORT of gRPC."""
    started: float
    """When the process was started, by `time.monotonic`."""

    def cpu_seconds(self) -> float:
        """Seconds of processor time that the process has used, with those that it has started and that run."""
        return sum(self.cpu_seconds_by_process())

    def cpu_seconds_by_process(self) -> list[float]:
        """The same, of each process: itself, then the others in the order of their start."""
        return [_cpu_seconds(pid) for pid in (self.process.pid, *sorted(_children(self.process.pid)))]


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def dragoman_command(bundle: Path, *options: str) -> list[str]:
    """Command line of `dragoman serve` on free ports."""
    serve = [sys.executable, "-m", "dragoman_service.cli", "serve", str(bundle)]
    return [*serve, "--port", "0", "--metrics-port", "0", *options]


def ct2_command(model: Path, tokenizer: Path, *options: str) -> list[str]:
    """Command line of bench/peers/ct2_server.py on a free port."""
    return [
        sys.executable,
        str(Path(__file__).parents[1] / "peers" / "ct2_server.py"),
        str(model),
        str(tokenizer),
        *options,
    ]


@contextmanager
def server_process(command: Sequence[str]) -> Iterator[ServerProcess]:
    """Start a server, wait until it prints "ready", and kill it at the end."""
    with tempfile.TemporaryFile("w+") as errors:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        watchdog = threading.Timer(START_SECONDS, process.kill)
        watchdog.start()
        try:
            address = _read_address(process)
            watchdog.cancel()
            yield ServerProcess(process, address, started)
        except _NotReady:
            errors.seek(0)
            raise SystemExit(f"{' '.join(command)} did not start:\n{errors.read()}") from None
        finally:
            watchdog.cancel()
            process.kill()
            process.wait(START_SECONDS)


class _NotReady(Exception):
    """The process ended, or was killed, before it was ready."""


def _read_address(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    address = ""
    for line in process.stdout:
        if line.startswith("gRPC"):
            address = line.split()[1]
        if line.strip() == "ready":
            return address
    raise _NotReady


def resident_bytes(pid: int) -> int:
    """Resident bytes of a process now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE


@contextmanager
def peak_memory(pid: int) -> Iterator[list[int]]:
    """Sample the resident bytes of a process. At the end, their maximum is appended to the yielded list."""
    stop = threading.Event()
    seen = [resident_bytes(pid)]

    def watch() -> None:
        while not stop.wait(_SAMPLE_SECONDS):
            seen.append(resident_bytes(pid))

    peak: list[int] = []
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()
        peak.append(max(seen))
