"""The engines' end of the link to a front process: one socket for all models, one thread that reads.

Answers are sent by the thread that has them, which is that of a lane, so that no other thread must wake for each step.
If the front does not read, they wait here, and a thread made for that sends them: no lane is held up by a front.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from dragoman_service.engine.engine import Connection, OnAnswers
from dragoman_service.engine.messages import Answer
from dragoman_service.engine.wire import (
    ACKNOWLEDGED,
    FORGOTTEN,
    FrameReader,
    Item,
    frame,
    item_of_answer,
    message_of,
)

_CHUNK = 256 * 1024
"""Most bytes that are read at once."""

_log = logging.getLogger(__name__)

Connect = Callable[[OnAnswers], Connection]


class EngineLink:
    """A front process, as the process of the engines sees it. Ends when either side closes the socket."""

    def __init__(self, end: socket.socket, on_closed: Callable[[EngineLink], None]) -> None:
        """Make a link over a stream socket, which it owns. `on_closed` is called once, on the reading thread."""
        self._socket = end
        self._on_closed = on_closed
        self._connections: dict[int, Connection] = {}
        self._lock = threading.Lock()  # guards what follows
        self._items: list[Item] = []  # to be sent by whoever is about to
        self._backlog = bytearray()  # of a front that does not read
        self._closed = False
        self._reading: int | None = None  # the reading thread, while it handles messages
        self.acknowledged = -1
        """Number of the newest snapshot that the front has taken in. No call begins by an older one after this."""

    def start(self) -> None:
        """Begin to read."""
        threading.Thread(target=self._read, name="dragoman-link", daemon=True).start()

    def add(self, model: int, connect: Connect) -> int:
        """Connect the front to the engine of a model. Returns the first id for its calls and requests."""
        connection = self._connections[model] = connect(partial(self._deliver, model))
        return connection.new_id()

    def forget(self, model: int) -> None:
        """Disconnect the front from the engine of a model, for which it has no call."""
        connection = self._connections.pop(model, None)
        if connection is not None:
            connection.close()
            self.send((FORGOTTEN, model))

    @property
    def models(self) -> list[int]:
        """The models that the front is connected to."""
        return list(self._connections)

    def send(self, *items: Item) -> None:
        """Send items. Never blocks, never raises."""
        with self._lock:
            self._items += items
            if threading.get_ident() != self._reading:
                self._flush()

    def close(self) -> None:
        """Close the socket; the reading thread does the rest."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def _deliver(self, model: int, answers: Sequence[Answer]) -> None:
        try:
            items = [item_of_answer(model, answer) for answer in answers]
        except Exception:  # an error that cannot be pickled: its request must not be waited for without end
            _log.exception("answers could not be sent: the link is closed")
            self.close()
            return
        self.send(*items)

    def _read(self) -> None:
        frames = FrameReader()
        try:
            while data := self._socket.recv(_CHUNK):
                self._reading = threading.get_ident()
                for items in frames.push(data):
                    for item in items:
                        self._handle(item)
                with self._lock:
                    self._reading = None
                    self._flush()
        except OSError:
            pass  # the front has ended
        except Exception:
            _log.exception("what came from a front could not be read: its link is closed")
        finally:
            with self._lock:
                self._closed, self._reading = True, None
            self.close()
            self._on_closed(self)
            for connection in list(self._connections.values()):
                connection.close()
            self._socket.close()

    def _handle(self, item: Item) -> None:
        if item[0] == ACKNOWLEDGED:
            self.acknowledged = item[1]
            return
        connection = self._connections.get(item[1])
        if connection is not None:  # else of a call that was over before its model was forgotten
            connection.send(message_of(item))

    def _flush(self) -> None:
        """Send what is to be sent. To be called with the lock."""
        if not self._items:
            return
        items, self._items = self._items, []
        if self._closed:
            return
        try:
            data = frame(items)
        except ValueError:
            _log.exception("answers could not be sent: the link is closed")
            self.close()
            return
        if self._backlog:
            self._backlog += data
            return
        try:
            sent = self._socket.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(data):
            self._backlog += data[sent:]
            threading.Thread(target=self._send_backlog, name="dragoman-backlog", daemon=True).start()

    def _send_backlog(self) -> None:
        waiting = select.poll()
        waiting.register(self._socket, select.POLLOUT)
        while True:
            with suppress(OSError):
                waiting.poll(1000)
            with self._lock:
                if self._closed:
                    return
                try:
                    sent = self._socket.send(self._backlog, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
                except BlockingIOError:
                    continue
                except OSError:
                    return
                del self._backlog[:sent]
                if not self._backlog:
                    return
