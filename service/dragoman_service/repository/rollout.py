"""Loads and unloads the versions of a repository while the server runs, without interrupting calls."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

from dragoman_service.errors import (
    Conflict,
    DragomanError,
    EngineFailure,
    InvalidInput,
    NotFound,
    RepositoryError,
    visible,
)
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.observer import RolloutObserver
from dragoman_service.repository.registry import Alias, ModelEntry, ModelRegistry
from dragoman_service.repository.repository import Listed, Repository, Unloaded, check_aliases
from dragoman_service.repository.versions import ModelVersions, VersionStatus
from dragoman_service.repository.worker import Worker
from dragoman_service.runtime import memory

CLOSE_SECONDS = 10.0
"""Default of the most seconds that `Rollout.close` waits for versions that are being closed."""
_IDLE_PERIOD = 0.05
"""Seconds between two checks whether calls still use a version that was replaced."""
_LONGEST_PROBLEM = 2_000
"""Most characters of a problem in the log. A bad bundle may have many, with any text."""

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Load = Callable[[Repository, str, str, Listed], ServedModel]
"""Function that loads a version of a model from the repository and tests it. It blocks and raises DragomanError."""


class Rollout:
    """Keeps a registry in accordance with a repository. It belongs to one event loop and makes one change at a time.

    A version gets traffic, by one assignment, once it is loaded and tested. The versions that it replaces are closed
    when their last call has ended. A version that cannot be loaded changes nothing in service, and is not tried again
    until its bundle changes or it is loaded by name. A version that disappears from the repository serves on until
    another one replaces it.
    """

    def __init__(self, repository: Repository, registry: ModelRegistry, load: Load, observer: RolloutObserver) -> None:
        """Create it on the event loop. Models that are in `registry` already are never changed."""
        self._repository = repository
        self._registry = registry
        self._load = load
        self._observer = observer
        self._fixed = frozenset(registry.entries)
        self._models: dict[str, ModelVersions] = {}
        self._lock = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._closing = False
        self._thread = Worker("dragoman-rollout")
        self._problems: dict[str, str] = {}

    async def refresh(self) -> None:
        """Read the repository and follow it. Problems are logged, and the versions in service serve on."""
        async with self._lock:
            try:
                await self._scan()
            except RepositoryError as error:
                self._log_once("", str(error))
                self._observer.repository_failed()
                return
            self._log_once("", "")
            for model in self._models.values():
                self._log_once(model.name, model.listed.problem)
                await self._load_missing(model)
                self._apply(model)

    async def watch(self, period: float) -> None:
        """Refresh every `period` seconds, until cancelled."""
        while True:
            await asyncio.sleep(period)
            try:
                await self.refresh()
            except Exception:
                _log.exception("following the repository failed")

    async def load(self, name: str, version: str = "") -> None:
        """Load a version, or the newest if `version` is empty, and keep it in service.

        Raises:
            DragomanError: the model or version is unknown, or it cannot be loaded.
        """
        async with self._lock:
            model = await self._known(name)
            version = version or list(model.listed.versions)[-1]
            _must_be_listed(version, model)
            trial = model.copy()
            trial.asked.add(version)
            await self._change(model, trial, version)

    async def unload(self, name: str, version: str = "") -> None:
        """Take a version out of service, or if `version` is empty the whole model with its future versions.

        It stays out until it is loaded by name. The repository keeps this, so other servers follow, and it survives a
        restart. Raises Conflict if an alias means the version.
        """
        async with self._lock:
            model = await self._known(name)
            if version:
                _must_be_listed(version, model)
                aliases = [alias for alias, it in model.listed.aliases.items() if it.version == version]
                if aliases:
                    names = ", ".join(aliases)
                    raise Conflict(f"version {version} of {name} has the alias {names}: move or delete it first")
            unloaded = model.listed.unloaded.with_version(version)
            versions = {version}
            if not version:
                versions = {*model.listed.versions, *model.serving}
                unloaded = Unloaded(model=True, versions=tuple(sorted(versions)))
            await self._on_thread(self._repository.write_unloaded, model.name, unloaded)
            model.listed = replace(model.listed, unloaded=unloaded)
            model.asked -= versions
            await self._load_missing(model)  # load the replacement before the version goes out of service
            self._apply(model)

    async def set_alias(self, name: str, alias: str, version: str, share: float = 0.0) -> None:
        """Point an alias at a version, which is loaded first if necessary. The repository keeps it for other servers.

        Raises:
            DragomanError: it cannot be done, and nothing has changed.
        """
        async with self._lock:
            model = await self._known(name)
            _must_be_listed(version, model)
            if alias in model.listed.versions:
                raise InvalidInput("alias", alias, f"a name that is not a version of {name}")
            await self._change_aliases(model, {**model.listed.aliases, alias: Alias(version, share)}, version)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Delete an alias, in the repository too. Raises NotFound if the model has no such alias."""
        async with self._lock:
            model = await self._known(name)
            if alias not in model.listed.aliases:
                there = ", ".join(model.listed.aliases) or "none"
                raise NotFound(f"no alias {alias[:80]!r} of {name}; there are: {there}")
            rest = {other: it for other, it in model.listed.aliases.items() if other != alias}
            await self._change_aliases(model, rest)

    def status(self) -> list[VersionStatus]:
        """All known versions, as of the last read of the repository."""
        return [status for name in sorted(self._models) for status in self._models[name].status()]

    async def settled(self) -> None:
        """Wait until every new call, in whatever process, meets the versions in service now."""
        await self._registry.settled()

    @property
    def busy(self) -> bool:
        """Whether a version is being loaded or closed, which cannot be interrupted."""
        return self._thread.busy

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """Close the versions that were replaced, without waiting for their calls.

        Waits at most `seconds`: a version that is being loaded may occupy the thread first. The owner of the registry
        closes the models in it.
        """
        # No task is cancelled: one that has not begun, or waits for the thread, would then not close its engine.
        self._closing = True
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=seconds)
        self._thread.close()

    async def _scan(self) -> None:
        found = await self._on_thread(self._repository.scan)
        for name in found.keys() & self._fixed:
            self._log_once(name, f"{name} of the repository is not served: the command line gave a bundle of that name")
        for name in {*found, *self._models} - self._fixed:
            model = self._models.setdefault(name, ModelVersions(name))
            listed = found.get(name, Listed())
            if listed.problem:
                kept = model.listed
                listed = replace(listed, aliases=kept.aliases, settings=kept.settings)
                if kept.versions:
                    listed = replace(listed, unloaded=kept.unloaded)
            model.listed = listed

    async def _known(self, name: str) -> ModelVersions:
        await self._scan()
        model = self._models.get(name)
        if model is None or not model.listed.versions:
            there = ", ".join(sorted(it.name for it in self._models.values() if it.listed.versions)) or "none"
            raise NotFound(f"no model {name[:80]!r} in the repository; there are: {there}")
        if model.listed.problem:
            raise Conflict(model.listed.problem)
        return model

    async def _change_aliases(self, model: ModelVersions, aliases: Mapping[str, Alias], version: str = "") -> None:
        """Replace the aliases of a model. `version` must load; problems of other versions are ignored."""
        check_aliases(aliases)
        trial = model.copy()
        trial.listed = replace(model.listed, aliases=aliases)
        await self._change(model, trial, version)

    async def _change(self, model: ModelVersions, trial: ModelVersions, version: str) -> None:
        """Replace the state of a model by `trial`, with `version` in service if it is not empty.

        Raises:
            DragomanError: it cannot be done, and nothing has changed.
        """
        if version:
            trial.listed = replace(trial.listed, unloaded=trial.listed.unloaded.without_version(version))
        trial.failed.pop(version, None)
        await self._load_missing(trial)
        try:
            if error := trial.failure(version):
                raise error
            if trial.listed.unloaded != model.listed.unloaded:
                await self._on_thread(self._repository.write_unloaded, model.name, trial.listed.unloaded)
            if trial.listed.aliases != model.listed.aliases:
                await self._on_thread(self._repository.write_aliases, model.name, trial.listed.aliases)
        except DragomanError:
            if trial.listed.unloaded != model.listed.unloaded:
                with suppress(DragomanError):  # the first error must be raised
                    await self._on_thread(self._repository.write_unloaded, model.name, model.listed.unloaded)
            model.failed = trial.failed
            self._retire_loaded(trial)
            raise
        self._apply(trial)

    async def _load_missing(self, model: ModelVersions) -> None:
        """Load the versions that should serve and do not. A failure is recorded, and another version may be chosen."""
        while missing := model.missing():
            version, mark = missing
            started = time.monotonic()
            try:
                served = await self._on_thread(self._load, self._repository, model.name, version, model.listed)
            except Exception as error:  # any error of a bundle: the other versions must still be loaded
                known = isinstance(error, DragomanError)
                what, why = f"{model.name} version {version}", visible(str(error), _LONGEST_PROBLEM)
                _log.error("%s is not taken into service: %s", what, why, exc_info=not known)
                model.failed[version] = (
                    mark,
                    error if isinstance(error, DragomanError) else EngineFailure(repr(error)),
                )
                good = False
            else:
                model.loaded[version] = (mark, served)
                good = True
            self._observer.loaded(model.name, time.monotonic() - started, good=good)

    def _apply(self, model: ModelVersions) -> None:
        """Switch to the loaded versions. From here on, no new call reaches a version that should not serve."""
        before = model.entry
        going = model.settle()
        self._models[model.name] = model
        if model.entry != before:
            self._registry.replace(model.name, model.entry)
            self._observer.show_aliases(model.name, model.entry)
            _log.warning("%s: in service: %s", model.name, _shown(model.entry))
        for served in going:
            self._retire(served)

    def _retire_loaded(self, trial: ModelVersions) -> None:
        for _, served in trial.loaded.values():
            self._retire(served)

    def _retire(self, served: ServedModel) -> None:
        task = asyncio.create_task(self._close_when_idle(served))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _close_when_idle(self, served: ServedModel) -> None:
        """Close a version that no new call can reach, once no call uses it."""
        await self._registry.settled()
        while not (served.engine.idle or self._closing):
            await asyncio.sleep(_IDLE_PERIOD)
        await self._on_thread(served.engine.close)
        self._observer.forget(served.description, served.engine)
        await self._on_thread(memory.release)

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._thread.submit(partial(work, *args, **kwargs)))

    def _log_once(self, about: str, problem: str) -> None:
        """Log a problem when it appears, not at every refresh."""
        if problem and self._problems.get(about) != problem:
            _log.error("%s", visible(problem, _LONGEST_PROBLEM))
        self._problems[about] = problem


def _must_be_listed(version: str, model: ModelVersions) -> None:
    if version not in model.listed.versions:
        there = ", ".join(model.listed.versions)
        raise NotFound(f"no version {version[:80]!r} of {model.name} in the repository; there are: {there}")


def _shown(entry: ModelEntry | None) -> str:
    if entry is None:
        return "no version"
    names = {version: [*entry.aliases_of(version)] for version in entry.versions}
    names[entry.default_version].insert(0, "default")
    return ", ".join(f"{version} ({', '.join(its)})" if its else version for version, its in names.items())
