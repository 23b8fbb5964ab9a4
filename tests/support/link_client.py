"""The far end of an `EngineLink`, for tests of engines: a front without an event loop."""

from __future__ import annotations

import itertools
import pickle
import socket
import threading
import time
from collections.abc import Callable

from dragoman_service.engine.engine import MAX_CONNECTIONS, Engine, OnAnswers, call_back
from dragoman_service.engine.link import EngineLink
from dragoman_service.engine.messages import Lost, Message
from dragoman_service.engine.stats import EngineStats
from dragoman_service.engine.wire import HEALTH, SNAPSHOT, FrameReader, answer_of, frame, item_of_message
from dragoman_service.errors import EngineLost

LOST = "the link to the engine is lost"
_MODEL = 7


def serve(
    engine: Engine, end: socket.socket, on_closed: Callable[[EngineLink], None] = lambda link: None
) -> EngineLink:
    """Serve one engine over a socket. Its counts are sent, which fronts do not get, for tests to look at."""
    closed = threading.Event()

    def ended(link: EngineLink) -> None:
        closed.set()
        on_closed(link)

    def report() -> None:
        while not closed.wait(0.05):
            link.send((HEALTH, engine.healthy, pickle.dumps(engine.stats())))

    link = EngineLink(end, ended)
    link.send((SNAPSHOT, link.add(_MODEL, engine.connect)))
    link.start()
    threading.Thread(target=report, daemon=True).start()
    return link


class LinkClient:
    """A connection to an engine, as `engine.Connection`."""

    def __init__(self, end: socket.socket, on_answers: OnAnswers) -> None:
        self._socket = end
        self._on_answers = on_answers
        self._stats = EngineStats()
        self._healthy, self._closed = True, False
        self._ids = iter(())
        self._told = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()
        assert self._told.wait(30)
        if not self._healthy:
            raise EngineLost(LOST)

    @property
    def healthy(self) -> bool:
        return self._healthy

    def stats(self) -> EngineStats:
        return self._stats

    def new_id(self) -> int:
        return next(self._ids)

    def send(self, message: Message) -> None:
        try:
            self._socket.sendall(frame([item_of_message(_MODEL, message)]))
        except OSError:
            self._lose()

    def close(self) -> None:
        self._closed = True
        self._socket.shutdown(socket.SHUT_RDWR)

    def _lose(self) -> None:
        self._healthy = False
        if not self._closed:
            call_back(self._on_answers, [Lost(EngineLost(LOST))])

    def _read(self) -> None:
        frames = FrameReader()
        try:
            while data := self._socket.recv(65_536):
                for items in frames.push(data):
                    answers = []
                    for item in items:
                        if item[0] == SNAPSHOT:
                            self._ids = itertools.count(item[1], MAX_CONNECTIONS)
                            self._told.set()
                        elif item[0] == HEALTH:
                            self._healthy, self._stats = item[1], pickle.loads(item[2])
                        else:
                            answers.append(answer_of(item))
                    if answers and not self._closed:
                        call_back(self._on_answers, answers)
        except OSError:
            pass
        self._lose()
        self._told.set()


def wait_for_end(links: list[EngineLink], closed: list[EngineLink]) -> None:
    """Wait, in the process of an engine, until all fronts have left."""
    while len(closed) < len(links):
        time.sleep(0.01)
