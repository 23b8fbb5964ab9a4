"""A thread that does one job after the other, and does not keep the process from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """One daemon thread. An executor's threads are waited for when the process ends, however long a load takes.

    It is one thread because the C library keeps memory for each thread, and a bundle is read into it.
    """

    def __init__(self, name: str) -> None:
        self._jobs: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._unfinished = 0
        self._closed = False
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name=name, daemon=True).start()

    @property
    def busy(self) -> bool:
        """Whether a job runs or waits."""
        return self._unfinished > 0

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Have a job done after those before it; one that is cancelled while it waits is left out.

        Raises RuntimeError after `close`.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            self._unfinished += 1
            self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """End the thread after the jobs that it has."""
        with self._lock:
            self._closed = True
            self._jobs.put(None)

    def _run(self) -> None:
        while (item := self._jobs.get()) is not None:
            future, job = item
            try:
                if future.set_running_or_notify_cancel():
                    try:
                        result = job()
                    except BaseException as error:
                        future.set_exception(error)
                    else:
                        future.set_result(result)
            finally:
                with self._lock:
                    self._unfinished -= 1
