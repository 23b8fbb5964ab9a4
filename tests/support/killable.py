"""Processes to be killed or to run in parallel, which start within milliseconds: the modules of training are imported.

They are forked, but not from the test's process: its other threads may hold locks, which nobody would release in the
copy. A server of multiprocessing, with a single thread, is forked instead.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["pytest", "dragoman_model.data.prepare"])  # processes import the main module: pytest


def start(action: Callable[[], object]) -> ForkServerProcess:
    """Run `action`, which must be picklable, in a process."""
    process = _SERVER.Process(target=_run, args=(action,), daemon=True)
    process.start()
    return process


def end_of(process: ForkServerProcess) -> int | None:
    """Wait for a process; returns its exit status, or the negative number of the signal that ended it."""
    process.join()
    return process.exitcode


def barrier(parties: int) -> Barrier:
    """At which so many processes wait for each other."""
    return _SERVER.Barrier(parties)


def killed_at(moment: int, folder: Path, action: Callable[[], object]) -> Callable[[], object]:
    """Return `action` with a SIGKILL right before its `moment`-th change below `folder`, counted from 1."""
    return functools.partial(_with_kill, moment, folder, action)


def _run(action: Callable[[], object]) -> None:
    threads = os.listdir(f"/proc/{os.getppid()}/task")
    assert len(threads) == 1, f"forked from a process with {len(threads)} threads"
    action()


def _with_kill(moment: int, folder: Path, action: Callable[[], object]) -> None:
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        reads = event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if event in _FILE_EVENTS and not reads and str(arguments[0]).startswith(str(folder)):
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    action()


_FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
