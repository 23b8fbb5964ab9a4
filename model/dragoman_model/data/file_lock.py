"""File locks between processes. The file of a lock is removed when the lock is released."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """A context that holds the lock of the file `path`. The file is removed at the end.

    If a process is killed, the kernel releases its lock. The file remains, and the next holder uses it.

    Args:
        path: The file of the lock. Its folder must exist.
        wait: Whether to wait while another process holds the lock. A message is logged then.

    Yields:
        Whether the lock is held. It always is if `wait` is True.

    Raises:
        OSError: the file cannot be made, or the file system does not support locks.
    """
    while True:
        with path.open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    yield False
                    return
                log.info("waiting for another process, which holds %s", path)
                fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, path):
                continue  # the former holder has removed this file, and the next process would lock a new one
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    """Whether `path` still leads to the open file."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
