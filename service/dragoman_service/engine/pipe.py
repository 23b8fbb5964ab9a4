"""Connects a front to an engine in another process: a pipe that carries pickled messages and answers.

Both ends must be of the same version and trust each other, as with `multiprocessing`. Each end has a thread that reads
and a thread that writes, so that nobody who sends is ever blocked by the other process.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection as Pipe
from typing import Any

from dragoman_service.engine.engine import MAX_CONNECTIONS, Connection, Engine, OnAnswers, call_back
from dragoman_service.engine.messages import Answer, Lost, Message
from dragoman_service.engine.stats import EngineStats
from dragoman_service.errors import EngineFailure

STATS_SECONDS = 0.25
"""Seconds between two reports of health and counts to a front."""
SILENT_SECONDS = 2.0
"""Seconds without a report after which a front takes the engine for unhealthy."""

_log = logging.getLogger(__name__)

_Outbox = queue.SimpleQueue[Sequence[Any] | None]


def serve(engine: Engine, pipe: Pipe) -> None:
    """Serve the front at the other end of a pipe until that end is closed, then cancel its calls and close the pipe.

    Args:
        engine: The engine to serve.
        pipe: One end of `multiprocessing.Pipe(duplex=True)`.
    """
    outbox: _Outbox = queue.SimpleQueue()
    connection: Connection | None = None
    writer: threading.Thread | None = None
    try:
        connection = engine.connect(outbox.put)
        pipe.send(connection.new_id())
        writer = _start(_write, pipe, outbox, _Report(engine), STATS_SECONDS)
        while True:
            for message in pipe.recv():
                connection.send(message)
    except (EOFError, OSError):
        pass  # the front has closed the pipe, or has ended
    except Exception:
        _log.exception("what came from a front could not be read: its pipe is closed")
    finally:
        if connection is not None:
            connection.close()
        outbox.put(None)
        _close(pipe, writer)


class _Report:
    """Puts answers into an envelope with the health and the counts of an engine: what a front reads from the pipe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._last_stats = -STATS_SECONDS

    def __call__(self, answers: Sequence[Answer]) -> tuple[Sequence[Answer], bool, EngineStats | None]:
        now = time.monotonic()
        stats = None
        if now - self._last_stats >= STATS_SECONDS:
            self._last_stats, stats = now, self._engine.stats()
        return answers, self._engine.healthy, stats


def connect(pipe: Pipe, on_answers: OnAnswers) -> PipeConnection:
    """Connect to the engine that serves the other end of a pipe; see `Engine.connect`.

    Blocks until the other end serves. Raises EngineFailure if it is closed.
    """
    return PipeConnection(pipe, on_answers)


class PipeConnection:
    """A front's end of a pipe. The counts that it knows are at most twice `STATS_SECONDS` old."""

    def __init__(self, pipe: Pipe, on_answers: OnAnswers) -> None:
        """See `connect`."""
        self._pipe = pipe
        self._on_answers = on_answers
        try:
            first: int = pipe.recv()
        except (EOFError, OSError):
            raise _lost().error from None
        self._ids = itertools.count(first, MAX_CONNECTIONS)
        self._lock = threading.Lock()  # guards `_lost` and `_closed`
        self._lost = self._closed = False
        self._healthy = True
        self._last_report = time.monotonic()
        self._stats = EngineStats()
        self._outbox: _Outbox = queue.SimpleQueue()
        self._writer = _start(_write, pipe, self._outbox, list, None)
        self._reader = _start(self._read)

    @property
    def healthy(self) -> bool:
        """The newest known health of the engine; False once it is lost, or silent for `SILENT_SECONDS`."""
        return self._healthy and time.monotonic() - self._last_report < SILENT_SECONDS

    def new_id(self) -> int:
        """A new id for a call or a request."""
        return next(self._ids)

    def stats(self) -> EngineStats:
        """The newest snapshot received."""
        return self._stats

    def send(self, message: Message) -> None:
        """Send a message. It is answered with `Lost` once the engine is lost."""
        if self._lost:
            self._deliver([_lost()])
        else:
            self._outbox.put((message,))

    def close(self) -> None:
        """Close the pipe: the engine cancels the calls of this connection. No answer comes after this returns."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._healthy = False
        self._outbox.put(None)
        _shut_down(self._pipe)
        if threading.current_thread() is not self._reader:
            self._reader.join()
        _close(self._pipe, self._writer)

    def _read(self) -> None:
        try:
            while True:
                answers, self._healthy, stats = self._pipe.recv()
                self._last_report = time.monotonic()
                self._stats = stats or self._stats
                if answers:
                    self._deliver(answers)
        except (EOFError, OSError):
            pass
        except Exception:
            _log.exception("what came from an engine could not be read: its pipe is closed")
            _shut_down(self._pipe)
        with self._lock:
            self._healthy, self._lost = False, True
            if self._closed:
                return
        self._deliver([_lost()])

    def _deliver(self, answers: Sequence[Answer]) -> None:
        if not self._closed:
            call_back(self._on_answers, answers)


def _lost() -> Lost:
    return Lost(EngineFailure("the connection to the engine's process is lost"))


def _write(pipe: Pipe, outbox: _Outbox, envelope: Callable[[list[Any]], object], interval: float | None) -> None:
    """Send what is put into the outbox, all that is there in one envelope, until the outbox yields None.

    Sends an envelope every `interval` seconds at least, if it is not None. Closes the pipe for both ends at the end.
    """
    try:
        while True:
            values: list[Any] = []
            try:
                received = outbox.get(timeout=interval)
                while received is not None:
                    values += received
                    received = outbox.get_nowait()
                return
            except queue.Empty:
                pass
            pipe.send(envelope(values))
    except OSError:
        pass  # the other end is closed; the reader of this end notices it too
    except Exception:
        _log.exception("a message could not be sent: the pipe is closed")
    finally:
        _shut_down(pipe)


def _start(target: Callable[..., None], *args: object) -> threading.Thread:
    thread = threading.Thread(target=target, args=args, name="dragoman-pipe", daemon=True)
    thread.start()
    return thread


def _shut_down(pipe: Pipe) -> None:
    """Wake the threads that read from a pipe or write into it, at both ends. Closing its descriptor does not."""
    with suppress(OSError), socket.socket(fileno=os.dup(pipe.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def _close(pipe: Pipe, writer: threading.Thread | None) -> None:
    """Close a pipe once nobody uses its descriptor, which another file may get at once."""
    _shut_down(pipe)
    if writer is not None:
        writer.join()
    pipe.close()
