"""Connects a front to an engine in another process: a pipe that carries pickled messages and answers.

Both ends must be of the same version and trust each other, as with `multiprocessing`.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection as Pipe

from dragoman_service.engine.engine import MAX_CONNECTIONS, Engine, OnAnswers
from dragoman_service.engine.messages import Answer, Lost, Message
from dragoman_service.engine.stats import EngineStats
from dragoman_service.errors import EngineFailure

STATS_SECONDS = 0.25
"""Minimum number of seconds between two snapshots of the counts that a front gets."""

_log = logging.getLogger(__name__)

_Outbox = queue.SimpleQueue[Sequence[Answer] | None]


def serve(engine: Engine, pipe: Pipe) -> None:
    """Serve the front at the other end of a pipe until that end is closed, then cancel its calls and close the pipe."""
    outbox: _Outbox = queue.SimpleQueue()
    connection = engine.connect(outbox.put)
    # A separate thread writes: a front that does not read must not block the lanes.
    writer = threading.Thread(target=_write, args=(engine, pipe, outbox), name="dragoman-pipe", daemon=True)
    try:
        pipe.send(connection.new_id())
        writer.start()
        while True:
            connection.send(pipe.recv())
    except (EOFError, OSError):
        pass  # the front has closed the pipe, or has ended
    except Exception:
        _log.exception("a message of a front could not be handled: its pipe is closed")
    finally:
        connection.close()
        outbox.put(None)
        pipe.close()


def _write(engine: Engine, pipe: Pipe, outbox: _Outbox) -> None:
    """Send answers as they come, with the health and the counts of the engine, until the outbox yields None."""
    last_stats = -STATS_SECONDS
    while True:
        answers: list[Answer] = []
        try:
            received = outbox.get(timeout=STATS_SECONDS)
            while received is not None:
                answers += received
                received = outbox.get_nowait()
            return
        except queue.Empty:
            pass
        now = time.monotonic()
        stats = None
        if now - last_stats >= STATS_SECONDS:
            last_stats, stats = now, engine.stats()
        try:
            pipe.send((answers, engine.healthy, stats))
        except OSError:  # the pipe is closed; `serve` notices it too
            return


def connect(pipe: Pipe, on_answers: OnAnswers) -> PipeConnection:
    """Connect to the engine that serves the other end of a pipe; see `Engine.connect`."""
    return PipeConnection(pipe, on_answers)


class PipeConnection:
    """A front's end of a pipe.

    The health that it knows is at most `STATS_SECONDS` old, and the counts at most twice as old.
    """

    def __init__(self, pipe: Pipe, on_answers: OnAnswers) -> None:
        """Wait until the other end serves. Raises EOFError if it is closed."""
        self._pipe = pipe
        self._on_answers = on_answers
        first: int = pipe.recv()
        self._ids = itertools.count(first, MAX_CONNECTIONS)
        self._lock = threading.Lock()
        self._healthy = True
        self._lost = False
        self._stats = EngineStats()
        self._reader = threading.Thread(target=self._read, name="dragoman-pipe", daemon=True)
        self._reader.start()

    @property
    def healthy(self) -> bool:
        """The newest known health of the engine; False once it is lost."""
        return self._healthy

    def new_id(self) -> int:
        """A new id for a call or a request."""
        return next(self._ids)

    def stats(self) -> EngineStats:
        """The newest snapshot received."""
        return self._stats

    def send(self, message: Message) -> None:
        """Send a message. It is answered with `Lost` once the engine is lost."""
        try:
            with self._lock:
                self._pipe.send(message)
        except OSError:
            self._lose()

    def close(self) -> None:
        """Close the pipe: the engine cancels the calls of this connection."""
        with self._lock:
            self._lost = True  # so that `_read` does not report the end of the pipe
            self._pipe.close()

    def _read(self) -> None:
        try:
            while True:
                answers, self._healthy, stats = self._pipe.recv()
                self._stats = stats or self._stats
                if answers:
                    self._deliver(answers)
        except (EOFError, OSError, TypeError):  # TypeError: `close` was called while `recv` was reading
            if not self._lost:
                self._lose()

    def _lose(self) -> None:
        self._healthy, self._lost = False, True
        self._deliver([Lost(EngineFailure("the engine's process has ended"))])

    def _deliver(self, answers: Sequence[Answer]) -> None:
        try:
            self._on_answers(answers)
        except Exception:
            _log.exception("a front failed on answers")
