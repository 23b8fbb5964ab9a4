"""A rollout over a folder of manifests. It loads models with fake workers, and logs each load and close."""

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
"""Seconds after which a test fails; far more than a working rollout needs."""


class StagedWorkers(FakeWorkers):
    """Fake workers that report when they are closed."""

    def __init__(self, on_close: Callable[[], None], *, held: bool) -> None:
        super().__init__(held=held)
        self.closed = False
        self._on_close = on_close

    def close(self) -> None:
        self._on_close()
        self.closed = True
        super().close()


class Stage:
    """A repository, a registry, a log, and the faults to inject."""

    def __init__(self, folder: Path, fixed: Sequence[ServedModel] = ()) -> None:
        self.store = Store(str(folder / "models"))
        self.repository = Repository(self.store.url, folder / "cache")
        self.registry = ModelRegistry(fixed)
        self.metrics = Metrics(CollectorRegistry())
        self.log: list[str] = []
        """Loads and closes, each with the default version of the model at that time."""
        self.bad: set[str] = set()
        """NAME@VERSION of bundles that cannot be loaded."""
        self.held = False
        """Whether the workers of models loaded from now on are held."""
        self.loaded: dict[str, list[ServedModel]] = {}
        self._workers: dict[ServedModel, StagedWorkers] = {}
        self.while_loading: Callable[[], object] = lambda: None
        """Called on the thread that loads."""

    def load(self, repository: Repository, name: str, version: str, listed: Listed) -> ServedModel:
        """Replaces `loading.load_version`."""
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
        return {alias: each.version for alias, each in entry.aliases.items()} if entry else {}

    def engine(self, selector: str, place: int = -1) -> StagedWorkers:
        """The workers of a loaded version; of its last load unless `place` is given."""
        return self._workers[self.loaded[selector][place]]

    def new_log(self) -> list[str]:
        """The log entries since the previous call."""
        log, self.log = self.log, []
        return log

    def metric(self, name: str, **labels: str) -> float | None:
        """The value of a metric; None if there is no such series."""
        return self.metrics.registry.get_sample_value(name, labels)

    def play(self, act: Callable[[Rollout], Coroutine[Any, Any, None]]) -> None:
        """Run `act` with a rollout on a new event loop, then close the rollout and the models in service."""

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
    """Wait until other threads or tasks make a condition true."""
    while not condition():
        await asyncio.sleep(0.001)


def written(stage: Stage) -> dict[str, Any]:
    """The aliases in the repository."""
    value: dict[str, Any] = json.loads(stage.store.read("m/aliases.json"))
    return value


def state_of(rollout: Rollout, version: str) -> str:
    """The state of a version as reported to operators."""
    return next(each.state for each in rollout.status() if each.version == version)


async def refused(change: Coroutine[Any, Any, None], kind: type[DragomanError], message: str) -> None:
    """Check that a change raises."""
    with pytest.raises(kind, match=message):
        await change
