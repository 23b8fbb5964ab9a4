"""Documents with real servers: of several processes, and of a process that is killed."""

from __future__ import annotations

import os
import signal
from http.client import HTTPException
from pathlib import Path

import pytest

from support.http_calls import ask
from support.processes import processes
from support.server_process import server_process
from support.uploads import begun, ended
from support.waiting import wait_until

LONG = "".join(f"The cat number {number} reads a book in the garden.\n" for number in range(3_000)).encode()
CONNECTIONS = 16
"""Of as many connections, no front gets none but once in thousands of runs."""


@pytest.mark.parametrize("fronts", ["0", "2"])
def test_a_job_is_seen_by_every_process_and_outlives_none(bundle: Path, tmp_path: Path, fronts: str) -> None:
    with server_process([bundle], "--http-port", "0", "--fronts", fronts, "--document-folder", tmp_path) as server:
        name = begun(server.url, "a.txt", b"Good morning!", target_language="de")
        assert ended(server.url, name)["state"] == "DONE"
        where = f"{server.url}/v1/documents/{name}"
        assert {ask(f"{where}/content").body for _ in range(CONNECTIONS)} == {b"Guten Morgen!"}
        assert ask(where, verb="DELETE").status == 200
        assert {ask(where).status for _ in range(CONNECTIONS)} == {404}

        running = begun(server.url, "a.txt", LONG, target_language="de")
        where = f"{server.url}/v1/documents/{running}"
        wait_until(lambda: ask(where).json["textsDone"] > 0)
        assert {ask(where).json["state"] for _ in range(CONNECTIONS)} == {"RUNNING"}
        if fronts == "0":
            workers = _children(server.process.pid)
            server.process.kill()
            server.process.wait()
        else:
            killed = [processes(server)[front] for front in ("front 1", "front 2")]
            workers = [worker for front in killed for worker in _children(front)]
            for front in killed:
                os.kill(front, signal.SIGKILL)
            wait_until(lambda: _state(where) == FAILED)
        assert workers
        wait_until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))
    if fronts == "0":
        with server_process([bundle], "--http-port", "0", "--document-folder", tmp_path) as server:
            assert _state(f"{server.url}/v1/documents/{running}") == FAILED


FAILED = ("FAILED", "the process that translated it has ended")


def _state(url: str) -> tuple[str, str]:
    """State and error of a job; nothing while no process answers."""
    try:
        job = ask(url).json
    except (OSError, HTTPException):
        return "", ""
    return job.get("state", ""), job.get("error", "")


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def test_a_server_that_stops_leaves_no_temporary_folder(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    for fronts in ("0", "2"):
        with server_process([bundle], "--http-port", "0", "--fronts", fronts, "--grace", "1") as server:
            begun(server.url, "a.txt", LONG, target_language="de")
            assert [path.name.startswith("dragoman-documents-") for path in tmp_path.iterdir()] == [True]
            server.process.terminate()
            assert server.process.wait(30) == 0
        assert list(tmp_path.iterdir()) == []
