"""Limits the memory of processes by a control group. The kernel kills a process that exceeds the limit."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_ROOT = Path("/sys/fs/cgroup")


@contextmanager
def memory_limit(size: int) -> Iterator[list[str]]:
    """Yield a command prefix that limits the memory of the command to `size` bytes.

    Skips the test if control groups are not available.
    """
    first_version = _ROOT / "memory"
    parent = first_version if first_version.exists() else _ROOT
    group = parent / f"dragoman-test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        limit = group / ("memory.limit_in_bytes" if parent == first_version else "memory.max")
        if not limit.exists():
            pytest.skip("control groups cannot limit memory here")
        try:
            limit.write_text(str(size))
        except OSError as error:
            pytest.skip(f"memory cannot be limited here: {error}")
        yield ["sh", "-c", f'echo $$ > {group / "cgroup.procs"} && exec "$@"', "sh"]
    finally:
        _remove(group)


def _remove(group: Path) -> None:
    """Remove a control group, as soon as the kernel has removed its last process."""
    limit = time.monotonic() + 30
    while True:
        try:
            return group.rmdir()
        except OSError:
            if time.monotonic() > limit:
                raise
            time.sleep(0.05)
