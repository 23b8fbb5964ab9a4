"""Copies of the test's process, to be killed or to run side by side: they begin at once, as all is imported."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


def start(action: Callable[[], object]) -> int:
    """Begin `action` in a copy of this process; returns its number, for `end_of`."""
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
    """Wait for it; returns its exit status, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_at(moment: int, folder: Path, action: Callable[[], object]) -> Callable[[], object]:
    """`action`, killed before it changes something below `folder` for the time of this number, counted from 1."""

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
