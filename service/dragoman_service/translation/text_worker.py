"""A thread for work on long texts, shared fairly among clients."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Generator
from typing import Any, Generic, TypeVar

SLICE_SECONDS = 0.001
"""Time that a client's work gets before it is the next client's turn."""
PAUSE_SECONDS = 0.002
"""Pause after each slice. Without it, the thread would keep the interpreter for the switch interval of Python (5 ms)
after each wait of another thread. Decoding a text takes far longer than the pauses of its preparation."""

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that yields after each small step, and returns its result."""


class _Job(Generic[T]):
    def __init__(self, steps: Steps[T]) -> None:
        self.steps = steps
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[T] = self.loop.create_future()
        self.given_up = False


class TextWorker:
    """Runs work step by step on one thread, in turns: a client's long texts do not delay those of another client."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        # Client -> its jobs, as the keys, in the order of arrival. Clients are in the order of turns.
        self._jobs: OrderedDict[str, OrderedDict[_Job[Any], None]] = OrderedDict()
        self._current: _Job[Any] | None = None  # which the thread works on
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    async def run(self, client: str, steps: Steps[T]) -> T:
        """Do the work of a client. If the caller is cancelled, the work is given up, after its current step if it has
        begun one.
        """
        job = _Job(steps)
        with self._condition:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="dragoman-text", daemon=True)
                self._thread.start()
            self._jobs.setdefault(client, OrderedDict())[job] = None
            self._condition.notify()
        try:
            return await job.done
        except asyncio.CancelledError:
            self._give_up(client, job)
            raise

    def _give_up(self, client: str, job: _Job[Any]) -> None:
        """Take a job out of the queue. Its text takes memory, which no longer counts once the call has ended."""
        with self._condition:
            job.given_up = True
            jobs = self._jobs.get(client, OrderedDict())
            if job is self._current or job not in jobs:
                return
            del jobs[job]
            if not jobs:
                del self._jobs[client]
        job.steps.close()

    def close(self) -> None:
        """Stop the thread after its current slice. Work that is not done never ends."""
        with self._condition:
            self._closed.set()
            self._condition.notify()

    def _work(self) -> None:
        while True:
            with self._condition:
                while not (self._jobs or self._closed.is_set()):
                    self._condition.wait()
                if self._closed.is_set():
                    return
                client, jobs = next(iter(self._jobs.items()))
                job = self._current = next(iter(jobs))
            ended = self._slice(job)
            with self._condition:
                self._current = None
                if ended:
                    del jobs[job]
                if jobs:
                    self._jobs.move_to_end(client)
                else:
                    del self._jobs[client]
            del job, jobs  # which keep the texts of the job until the next one
            self._closed.wait(PAUSE_SECONDS)  # the system call behind `time.sleep` may fail, and would end the thread

    def _slice(self, job: _Job[Any]) -> bool:
        """Work on a job for a slice; returns whether it has ended."""
        until = time.perf_counter() + SLICE_SECONDS
        try:
            while time.perf_counter() < until:
                if job.given_up:
                    job.steps.close()
                    return True
                next(job.steps)
        except StopIteration as end:
            _settle(job, end.value, None)
            return True
        except BaseException as error:  # a panic of Rust code is no Exception; the caller must not be left waiting
            _settle(job, None, error)
            return True
        return False


def run_inline(steps: Steps[T]) -> T:
    """Do all the work at once."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result


def _settle(job: _Job[Any], result: Any, error: BaseException | None) -> None:
    def settle() -> None:
        if job.done.done():
            return
        if error is not None:
            job.done.set_exception(error)
        else:
            job.done.set_result(result)

    try:
        job.loop.call_soon_threadsafe(settle)
    except RuntimeError:  # the loop is closed, so nobody waits
        return
