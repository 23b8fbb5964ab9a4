"""Temporary folders that go with the process that made them, even if it is killed.

The process holds a lock on its folder. The system lets go of the lock when the process ends, so the next process that
makes a folder of this kind removes it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from contextlib import suppress
from pathlib import Path

_STALE_SECONDS = 60.0
"""Age from which the folder of a process that has died is removed. A younger one may not be locked yet."""


class OwnFolder:
    """A new, empty folder in the temporary folder (TMPDIR)."""

    def __init__(self, prefix: str) -> None:
        """Make the folder, and remove those of this prefix that processes left behind. Raises OSError."""
        _remove_stale(prefix)
        self.path = Path(tempfile.mkdtemp(prefix=prefix))
        self._lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove the folder. A second call does nothing."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


def _remove_stale(prefix: str) -> None:
    """Remove the folders of this user whose process has ended."""
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # it belongs to a running process, or another one has removed it
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _STALE_SECONDS:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
