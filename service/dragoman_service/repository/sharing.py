"""The models of a process in the hands of others: its registry as snapshots, and links to its engines.

The process that has the engines publishes; front processes subscribe, each over one socket. A front begins no call by
an older snapshot than the last one it has acknowledged, because both cross the same socket.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import pickle
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from dragoman_service.engine.link import EngineLink
from dragoman_service.engine.wire import HEALTH, SNAPSHOT
from dragoman_service.repository.models import ModelDescription, ServedModel, TextTokenizer
from dragoman_service.repository.registry import Alias, ModelEntry, ModelRegistry

HEALTH_SECONDS = 0.25
"""Seconds between two reports of the engines' health to the fronts."""
_SETTLE_SECONDS = 5.0
"""Seconds after which a front that has not taken in a snapshot is not waited for."""
_SETTLE_PERIOD = 0.002

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SharedEntry:
    """A model in service; versions are numbers of models."""

    versions: Mapping[str, int]
    default_version: str
    aliases: Mapping[str, Alias]


@dataclass(frozen=True, slots=True)
class SharedModel:
    """What a front needs of a version."""

    description: ModelDescription
    tokenizer: TextTokenizer
    first_id: int
    """First id for the calls and requests of this front; see `engine.Engine`."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The registry of the process that has the engines."""

    entries: Mapping[str, SharedEntry]
    """In the order of the registry."""
    new: Mapping[int, SharedModel]
    """The models that the front has not had in an earlier snapshot. Numbers are never used again."""


class SharedRegistry(ModelRegistry):
    """A registry that fronts follow. `replace` belongs to one thread, `join` and the rest to any."""

    def __init__(self, models: Sequence[ServedModel] = ()) -> None:
        super().__init__(models)
        self._lock = threading.Lock()
        self._links: list[EngineLink] = []
        self._numbers: WeakKeyDictionary[ServedModel, int] = WeakKeyDictionary()
        self._next = itertools.count()
        self._snapshot = 0
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to report the health of the engines."""
        threading.Thread(target=self._report, name="dragoman-health", daemon=True).start()

    def replace(self, name: str, entry: ModelEntry | None) -> None:
        """See ModelRegistry. The fronts are told."""
        with self._lock:
            super().replace(name, entry)
            self._snapshot += 1
            for link in self._links:
                self._send(link)

    async def settled(self) -> None:
        """Wait until no front begins a call by an older registry than this one."""
        wanted, limit = self._snapshot, time.monotonic() + _SETTLE_SECONDS
        while any(link.acknowledged < wanted for link in self._links):
            if time.monotonic() >= limit:
                _log.warning("a front process has not taken in the models in service within %g s", _SETTLE_SECONDS)
                return
            await asyncio.sleep(_SETTLE_PERIOD)

    def join(self, end: socket.socket) -> None:
        """Serve the front at the other end of a socket, until it is closed."""
        link = EngineLink(end, self._left)
        with self._lock:
            self._links.append(link)
            self._send(link)
        link.start()

    def close(self) -> None:
        """Close the links."""
        self._closed.set()
        for link in list(self._links):
            link.close()

    def _left(self, link: EngineLink) -> None:
        with self._lock:
            self._links.remove(link)

    def _send(self, link: EngineLink) -> None:
        """Send the registry to a front. To be called with the lock."""
        known, new = set(link.models), {}
        entries = {}
        for name, entry in self.entries.items():
            for model in entry.versions.values():
                number = self._number(model)
                if number not in known:
                    first_id = link.add(number, model.engine.connect)
                    new[number] = SharedModel(model.description, model.tokenizer, first_id)
                    known.add(number)
            versions = {version: self._number(model) for version, model in entry.versions.items()}
            entries[name] = SharedEntry(versions, entry.default_version, dict(entry.aliases))
        link.send((SNAPSHOT, self._snapshot, pickle.dumps(Snapshot(entries, new))))

    def _number(self, model: ServedModel) -> int:
        number = self._numbers.get(model)
        if number is None:
            number = self._numbers[model] = next(self._next)
        return number

    def _report(self) -> None:
        while not self._closed.wait(HEALTH_SECONDS):
            try:
                with self._lock:
                    self._report_once()
            except Exception:
                _log.exception("reporting the health of the engines failed")

    def _report_once(self) -> None:
        here = {self._number(model): model for model in self.models}
        health = (HEALTH, tuple((number, model.engine.healthy) for number, model in here.items()))
        idle = {number for model, number in self._numbers.items() if number not in here and model.engine.idle}
        for link in self._links:
            if link.acknowledged >= self._snapshot:
                gone = [number for number in link.models if number not in here]
                for number in gone:
                    if number in idle or number not in self._numbers.values():
                        link.forget(number)
            link.send(health)
