"""Looks after the files of the bundles in service. Versions do not need them any more, but the next start does."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from weakref import WeakKeyDictionary

from dragoman_service.errors import visible
from dragoman_service.repository.models import ModelDescription, ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.repository.worker import Worker

PERIOD = 5.0
"""Seconds between two looks."""
_LONGEST_PROBLEM = 2_000
"""Most characters of a warning: a bundle may have many files, of any names."""

_log = logging.getLogger(__name__)


class BundleWatch:
    """Says in log and metrics when files of a bundle in service are not those that it was loaded from.

    It belongs to one event loop. A file system that hangs holds up this watch alone.
    """

    def __init__(self, registry: ModelRegistry, show: Callable[[ModelDescription, int], None]) -> None:
        """`show` receives the number of changed files of a version, at every look."""
        self._registry = registry
        self._show = show
        self._said: WeakKeyDictionary[ServedModel, set[str]] = WeakKeyDictionary()
        """Version -> the names of the files that the log has."""

    async def run(self, period: float = PERIOD) -> None:
        """Look every `period` seconds, until cancelled."""
        thread = Worker("dragoman-bundle-watch")
        try:
            while True:
                try:
                    await self._look(thread)
                except Exception:
                    _log.exception("looking after the files of the bundles failed")
                await asyncio.sleep(period)
        finally:
            thread.close()

    async def _look(self, thread: Worker) -> None:
        for model in self._registry.models:
            if model.copy is None:
                continue
            changes = await asyncio.wrap_future(thread.submit(model.copy.changes))
            if model in self._registry.models:  # otherwise its metrics may have been forgotten meanwhile
                self._show(model.description, len(changes))
                self._say(model, changes)

    def _say(self, model: ServedModel, changes: dict[str, str]) -> None:
        said = self._said.setdefault(model, set())
        new = changes.keys() - said
        said |= new
        if new and model.copy:
            what = "; ".join(f"{name} {changes[name]}" for name in sorted(new))
            _log.warning(
                "%s version %s: files of its bundle in %s changed since it was loaded: %s. Answers do not change, but "
                "the next start will find the bundle as it is now",
                model.description.name,
                model.description.version,
                model.copy.path,
                visible(what, _LONGEST_PROBLEM),
            )
