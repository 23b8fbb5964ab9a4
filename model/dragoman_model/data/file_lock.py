"""Locks between processes that leave no file behind."""

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
    """Hold the lock that the file `path` stands for; the file goes when the lock is given up.

    The kernel takes the lock from a process that is killed; its file stays, and is that of the next holder.

    Args:
        path: The file; its folder must exist.
        wait: Until others have given the lock up; the log says so.

    Yields:
        Whether it is held: always, if `wait`.

    Raises:
        OSError: the file cannot be made, or the file system knows no locks.
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
                continue  # its holder has removed it meanwhile: whoever comes next would lock another file
            try:
                yield True
            finally:
                path.unlink(missing_ok=True)
            return


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
