"""A rollout over a folder of manifests, which loads scripted engines and keeps a log of what was done when."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from dragoman_service.errors import BundleError, DragomanError
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.repository.repository import Listed, Repository
from dragoman_service.repository.rollout import Rollout
from dragoman_service.server.metrics import Metrics
from support.fake_workers import FakeWorkers, served
from support.stores import Store

PATIENCE = 30.0
"""Seconds after which a test gives up; only a broken rollout comes near."""


class StagedWorkers(FakeWorkers):
    """Tells when it is closed."""

    def __init__(self, on_close: Callable[[], None], *, held: bool) -> None:
        super().__init__(held=held)
        self.closed = False
        self._on_close = on_close

    def close(self) -> None:
        self._on_close()
        self.closed = True
        super().close()


class Stage:
    """A repository, a registry, a log, and what shall go wrong."""

    def __init__(self, folder: Path, fixed: Sequence[ServedModel] = ()) -> None:
        self.store = Store(str(folder / "models"))
        self.repository = Repository(self.store.url, folder / "cache")
        self.registry = ModelRegistry(fixed)
        self.metrics = Metrics(CollectorRegistry())
        self.log: list[str] = []
        """What was loaded and closed, and which version was the default of its model at that moment."""
        self.bad: set[str] = set()
        """NAME@VERSION of bundles that cannot be loaded."""
        self.held = False
        """Whether engines loaded from now on keep their answers back."""
        self.loaded: dict[str, list[ServedModel]] = {}
        self._workers: dict[ServedModel, StagedWorkers] = {}
        self.while_loading: Callable[[], object] = lambda: None
        """Called on the thread that loads."""

    def load(self, repository: Repository, name: str, version: str, listed: Listed) -> ServedModel:
        """As `loading.load_version` does, on a thread."""
        self._note("load", name, version)
        self.while_loading()
        if f"{name}@{version}" in self.bad:
            raise BundleError(f"{name}/{version}", ["it is bad"])
        workers = StagedWorkers(lambda: self._note("close", name, version), held=self.held)
        mark = listed.versions[version]
        model = served(workers, name=name, version=version, description=mark)
        self.metrics.watch(model.description, model.engine)
        self.loaded.setdefault(f"{name}@{version}", []).append(model)
        self._workers[model] = workers
        return model

    def default(self, name: str = "m") -> str:
        """The version that a name alone means."""
        entry = self.registry.entries.get(name)
        return entry.default_version if entry else "none"

    def serving(self, name: str = "m") -> list[str]:
        """The versions in service."""
        entry = self.registry.entries.get(name)
        return list(entry.versions) if entry else []

    def in_force(self, name: str = "m") -> dict[str, str]:
        """The aliases in service."""
        entry = self.registry.entries.get(name)
        return {alias: it.version for alias, it in entry.aliases.items()} if entry else {}

    def engine(self, selector: str, place: int = -1) -> StagedWorkers:
        """That of a version loaded, the last one unless another place is given."""
        return self._workers[self.loaded[selector][place]]

    def new_log(self) -> list[str]:
        """What was added since the last call."""
        log, self.log = self.log, []
        return log

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a metric, None if there is no such series."""
        return self.metrics.registry.get_sample_value(name, labels)

    def play(self, act: Callable[[Rollout], Coroutine[Any, Any, None]]) -> None:
        """Run `act` with a rollout on a fresh event loop, and close what serves in the end."""

        async def run() -> None:
            rollout = Rollout(self.repository, self.registry, self.load, self.metrics)
            try:
                await asyncio.wait_for(act(rollout), PATIENCE)
            finally:
                await rollout.close()
                for model in self.registry.models:
                    model.engine.close()

        asyncio.run(run())

    def _note(self, what: str, name: str, version: str) -> None:
        self.log.append(f"{what} {version}, serving {self.default(name)}")


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what happens on other threads and tasks."""
    while not condition():
        await asyncio.sleep(0.001)


def written(stage: Stage) -> dict[str, Any]:
    """The aliases in the repository."""
    value: dict[str, Any] = json.loads(stage.store.read("m/aliases.json"))
    return value


def state_of(rollout: Rollout, version: str) -> str:
    """As operators see it."""
    return next(it.state for it in rollout.status() if it.version == version)


async def refused(change: Coroutine[Any, Any, None], kind: type[DragomanError], message: str) -> None:
    """Make a change that raises."""
    with pytest.raises(kind, match=message):
        await change
