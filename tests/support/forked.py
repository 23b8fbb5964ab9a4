"""Forked copies of the test's process, to be killed or to run in parallel. All modules are imported already."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def start(action: Callable[[], object]) -> int:
    """Run `action` in a forked process; returns the process id, for `end_of`."""
    number = os.fork()
    if number:
        return number
    status = 1
    try:
        action()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def end_of(process: int) -> int:
    """Wait for a process; returns its exit status, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_at(moment: int, folder: Path, action: Callable[[], object]) -> Callable[[], object]:
    """Return `action` with a SIGKILL right before its `moment`-th change below `folder`, counted from 1."""

    def run() -> None:
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

    return run


_FILE_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}
