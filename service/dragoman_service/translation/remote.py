"""The front's end of the link to the process of the engines: its models, mirrored in a registry of this process.

All of it belongs to one event loop, and no thread is woken for a message. Messages of one turn of the loop are sent
together.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import cast

from dragoman_service.engine.engine import MAX_CONNECTIONS, OnAnswers, call_back
from dragoman_service.engine.messages import Answer, Lost, Message
from dragoman_service.engine.stats import EngineStats
from dragoman_service.engine.wire import (
    ACKNOWLEDGED,
    FORGOTTEN,
    HEALTH,
    SNAPSHOT,
    FrameReader,
    Item,
    answer_of,
    frame,
    item_of_message,
)
from dragoman_service.errors import EngineLost
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.observer import ModelObserver
from dragoman_service.repository.registry import ModelEntry, ModelRegistry
from dragoman_service.repository.sharing import Snapshot

SILENT_SECONDS = 5.0
"""Seconds without a report of health after which a front takes the engines for unhealthy."""
_RETRY_SECONDS = 0.2
"""Seconds before the process of the engines is dialled again."""
_LOST = "the engine's process has ended and is started again; the same call can be made again"

_log = logging.getLogger(__name__)


class RemoteEngine:
    """An engine of another process, for the frontend of this one."""

    remote = True

    def __init__(self, link: Link, model: int, first_id: int) -> None:
        self._link = link
        self._model = model
        self._ids = itertools.count(first_id, MAX_CONNECTIONS)

    @property
    def healthy(self) -> bool:
        """The newest known health."""
        return self._link.healthy(self._model)

    @property
    def idle(self) -> bool:
        """Not known here."""
        return False

    def connect(self, on_answers: OnAnswers) -> _RemoteConnection:
        """See `engine.Engine.connect`. One connection at a time gets answers: the newest."""
        return _RemoteConnection(self._link, self._model, self._ids, on_answers)

    def stats(self) -> EngineStats:
        """Not known here: the process of the engines reports them."""
        return EngineStats()

    def close(self) -> None:
        """Do nothing: the engine is not ours."""


class _RemoteConnection:
    """See `engine.Connection`."""

    def __init__(self, link: Link, model: int, ids: itertools.count[int], on_answers: OnAnswers) -> None:
        self._link = link
        self._model = model
        self._ids = ids
        self._on_answers: OnAnswers | None = on_answers
        link.listen(model, on_answers)

    @property
    def healthy(self) -> bool:
        return self._link.healthy(self._model)

    def stats(self) -> EngineStats:
        return EngineStats()

    def new_id(self) -> int:
        return next(self._ids)

    def send(self, message: Message) -> None:
        if self._on_answers is None:
            return
        if self._link.closed:
            call_back(self._on_answers, [Lost(EngineLost(_LOST))])
        else:
            self._link.send(item_of_message(self._model, message))

    def close(self) -> None:
        self._on_answers = None
        self._link.listen(self._model, None)


class Link(asyncio.Protocol):
    """A socket to the process of the engines, from its first snapshot to its end."""

    def __init__(
        self, on_snapshot: Callable[[Link, int, bytes], None], on_forgotten: Callable[[Link, int], None]
    ) -> None:
        self._on_snapshot = on_snapshot
        self._on_forgotten = on_forgotten
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._items: list[Item] = []
        self._listeners: dict[int, OnAnswers] = {}
        self._health: dict[int, bool] = {}
        self._heard = time.monotonic()
        self.closed = False
        self.ended: asyncio.Future[None] = self._loop.create_future()

    def healthy(self, model: int) -> bool:
        """The newest known health of an engine; False once nothing is heard of it."""
        heard = time.monotonic() - self._heard < SILENT_SECONDS
        return not self.closed and heard and self._health.get(model, True)

    def listen(self, model: int, on_answers: OnAnswers | None) -> None:
        """Deliver the answers of an engine from now on; None: to nobody."""
        if on_answers is None:
            self._listeners.pop(model, None)
        else:
            self._listeners[model] = on_answers

    def send(self, item: Item) -> None:
        """Send an item at the end of this turn of the loop."""
        if not self._items:
            self._loop.call_soon(self._flush)
        self._items.append(item)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            for items in self._frames.push(data):
                self._take(items)
        except Exception:
            _log.exception("what came from the engine's process could not be read: its link is closed")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol. All calls fail."""
        self.closed = True
        for listener in list(self._listeners.values()):
            call_back(listener, [Lost(EngineLost(_LOST))])
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        """Close the socket."""
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        items, self._items = self._items, []
        if not self.closed and self._transport is not None:
            self._transport.write(frame(items))

    def _take(self, items: Sequence[Item]) -> None:
        answers: dict[int, list[Answer]] = {}
        for item in items:
            kind = item[0]
            if kind == HEALTH:
                self._heard = time.monotonic()
                self._health = dict(item[1])
            elif kind == SNAPSHOT:
                self._on_snapshot(self, item[1], item[2])
            elif kind == FORGOTTEN:
                self._listeners.pop(item[1], None)
                self._on_forgotten(self, item[1])
            else:
                answers.setdefault(item[1], []).append(answer_of(item))
        for model, its in answers.items():
            listener = self._listeners.get(model)
            if listener is not None:
                call_back(listener, its)


class Mirror:
    """Keeps a registry as that of the process of the engines, and connects again when that has been replaced."""

    def __init__(self, registry: ModelRegistry, observer: ModelObserver, dial: socket.socket) -> None:
        """Create it on the event loop. `dial` takes one end of a socket to whoever has the engines."""
        self._registry = registry
        self._observer = observer
        self._dial = dial
        self._arrived: asyncio.Queue[tuple[Link, int, bytes]] = asyncio.Queue()
        self._models: dict[tuple[Link, int], ServedModel] = {}  # those that the other side has not forgotten
        self._serving: set[tuple[Link, int]] = set()
        self.ready = asyncio.Event()
        """Set once the models are known."""

    async def run(self) -> None:
        """Follow the registry, until cancelled."""
        taking = asyncio.create_task(self._take_all())
        try:
            while True:
                link = await self._connect()
                try:
                    await link.ended
                finally:
                    link.close()
                _log.warning("the link to the engine's process has ended; its calls have failed")
                await asyncio.sleep(_RETRY_SECONDS)
        finally:
            taking.cancel()

    async def _connect(self) -> Link:
        loop = asyncio.get_running_loop()
        mine, its = socket.socketpair()
        with its:
            while True:
                with suppress(BlockingIOError):
                    socket.send_fds(self._dial, [b"front"], [its.fileno()])
                    break
                await asyncio.sleep(_RETRY_SECONDS)
        mine.setblocking(False)
        _, link = await loop.create_unix_connection(
            lambda: Link(lambda *snapshot: self._arrived.put_nowait(snapshot), self._forget), sock=mine
        )
        return link

    async def _take_all(self) -> None:
        while True:
            link, number, data = await self._arrived.get()
            try:
                # On a thread, because tokenizers take a while to be made.
                snapshot: Snapshot = await asyncio.to_thread(pickle.loads, data)
                self._take(link, snapshot)
                self.ready.set()
                link.send((ACKNOWLEDGED, number))
            except Exception:
                _log.exception("the models in service could not be taken over")
                link.close()

    def _take(self, link: Link, snapshot: Snapshot) -> None:
        models = self._models
        for number, shared in snapshot.new.items():
            engine = RemoteEngine(link, number, shared.first_id)
            models[link, number] = ServedModel(shared.description, shared.tokenizer, engine)
        entries, serving = {}, set()
        for name, entry in snapshot.entries.items():
            keys = {version: (link, number) for version, number in entry.versions.items()}
            serving |= set(keys.values())
            versions = {version: models[key] for version, key in keys.items()}
            entries[name] = ModelEntry(versions, entry.default_version, entry.aliases)
        self._registry.entries = entries  # at once: a call meets the models before or after it
        before, self._serving = self._serving, serving
        for key in serving - before:
            self._observer.watch(models[key].description, models[key].engine)
        for key in before - serving:
            self._observer.forget(models[key].description, models[key].engine)
        self._models = {key: model for key, model in models.items() if key[0] is link}

    def _forget(self, link: Link, number: int) -> None:
        """The other side has, so that it will describe the model again if it comes back."""
        self._models.pop((link, number), None)
