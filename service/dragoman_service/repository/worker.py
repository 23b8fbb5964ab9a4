"""A daemon thread that runs jobs one after the other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Worker:
    """One daemon thread with a queue of jobs.

    An executor would not do: the process waits for its threads at exit, however long the load of a bundle takes. There
    is one thread, because the C library keeps freed memory for each thread that has read a bundle.
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
        """Queue a job. It is skipped if its future is cancelled before it starts. Raises RuntimeError after `close`."""
        future: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            self._unfinished += 1
            self._jobs.put((future, job))
        return future

    def close(self) -> None:
        """End the thread after the queued jobs."""
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
