"""Who may use a GPU when: a step that is being captured is spoiled by whatever another thread does there meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CaptureLock:
    """Any number of threads may use the GPU together, or one alone. Who wants to be alone goes before new users."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._users = 0
        self._alone = False

    @contextmanager
    def shared(self) -> Iterator[None]:
        """While the GPU is used and nothing is captured."""
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
        """While something is captured. Not to be entered by a thread that is a user already."""
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
