"""`dragoman serve` as a separate process, as an operator runs it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

START_SECONDS = 120
"""A server that takes longer than this to start or to end counts as hanging, even on a busy machine."""
FRONTS = ("--fronts", os.environ.get("DRAGOMAN_FRONTS", "0"))
"""All tests of a server process can be run with several processes: `DRAGOMAN_FRONTS=2 pytest tests/system`."""


def dragoman(*arguments: str | Path) -> list[str]:
    """The command line of a `dragoman` command."""
    return [sys.executable, "-m", "dragoman_service.cli", *map(str, arguments)]


def run_dragoman(*arguments: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a `dragoman` command and wait for its end."""
    return subprocess.run(
        dragoman(*arguments), input=text, capture_output=True, text=True, timeout=START_SECONDS, check=False
    )


def page(url: str) -> tuple[int, str]:
    """Status and text of a page."""
    try:
        with urllib.request.urlopen(url, timeout=START_SECONDS) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@dataclass
class ServerProcess:
    """A running server."""

    process: subprocess.Popen[str]
    lines: list[str]
    """Lines printed until it was ready."""
    errors: list[str] = field(default_factory=list)
    """Lines written to standard error."""

    @property
    def address(self) -> str:
        return self._printed("gRPC")

    @property
    def url(self) -> str:
        """Of the HTTP server."""
        return self._printed("HTTP")

    @property
    def metrics_url(self) -> str:
        return self._printed("metrics")

    @property
    def http_url(self) -> str:
        return self._printed("HTTP")

    def metrics(self) -> dict[str, float]:
        """The sum over all labels of each metric."""
        with urllib.request.urlopen(self.metrics_url, timeout=START_SECONDS) as page:
            text = page.read().decode()
        sums: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page on the metrics port."""
        return page(self.metrics_url.removesuffix("/metrics") + path)

    def wait_for_metrics(self, condition: Callable[[dict[str, float]], bool], seconds: float = 60) -> dict[str, float]:
        """Poll the metrics until `condition` is true."""
        limit = time.monotonic() + seconds
        while not condition(metrics := self.metrics()):
            assert time.monotonic() < limit, metrics
            time.sleep(0.05)
        return metrics

    def wait_until_free(self) -> None:
        """Wait until no row is used and no sentence waits."""
        self.wait_for_metrics(lambda m: m["dragoman_slots_used"] == 0 and m["dragoman_queue_depth"] == 0)

    def _printed(self, label: str) -> str:
        return next(line.split()[1] for line in self.lines if line.startswith(label))


@contextmanager
def server_process(models: Sequence[Path], *options: str) -> Iterator[ServerProcess]:
    """Run a server on free ports; yields once it is ready. It is killed at the end if it still runs."""
    command = dragoman("serve", *models, "--port", "0", "--metrics-port", "0", "--threads", "1", *FRONTS, *options)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    running = ServerProcess(process, [])
    errors = process.stderr
    # Read continuously: a full pipe would block the server.
    reader = threading.Thread(target=lambda: running.errors.extend(errors), daemon=True)
    reader.start()
    watchdog = threading.Timer(START_SECONDS, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            running.lines.append(line.strip())
            if line.strip() == "ready":
                break
        watchdog.cancel()
        assert running.lines[-1:] == ["ready"], running.errors
        yield running
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(START_SECONDS)
        reader.join(START_SECONDS)
