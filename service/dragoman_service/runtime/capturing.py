"""The lock that keeps other threads off a GPU while a CUDA graph is captured: their work would break the capture."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CaptureLock:
    """A lock that many threads hold together, or one alone. A thread that waits to be alone goes before new users."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Hold the lock together with others, to use the GPU while nothing is captured."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._users += 1
        try:
            yield
        finally:
            with self._condition:
                self._users -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock alone, to capture. A thread that holds `shared` must not enter: it would wait for itself."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._alone = True
            self._condition.wait_for(lambda: not self._users)
        try:
            yield
        finally:
            with self._condition:
                self._alone = False
                self._condition.notify_all()
