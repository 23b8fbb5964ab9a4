"""Takes bundles of a repository into service and out of it, without a call noticing."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import ParamSpec, TypeVar

from dragoman_service.errors import Conflict, DragomanError, EngineFailure, InvalidInput, NotFound, RepositoryError
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.observer import RolloutObserver
from dragoman_service.repository.registry import Alias, ModelEntry, ModelRegistry
from dragoman_service.repository.repository import Listed, Repository, Unloaded, check_aliases
from dragoman_service.repository.versions import ModelVersions, VersionStatus
from dragoman_service.repository.worker import Worker
from dragoman_service.runtime import memory

CLOSE_SECONDS = 10.0
"""How long `close` waits for what ends."""
_IDLE_PERIOD = 0.05
"""Seconds between looks at whether calls still use a version that was replaced."""

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

Load = Callable[[Repository, str, str, Listed], ServedModel]
"""Takes a version of a model from the repository, and proves it; blocks. Raises DragomanError."""


class Rollout:
    """Keeps a registry as a repository says: used on one event loop, one change at a time.

    A version takes traffic once it is loaded and proved, by one assignment; those that it replaces end when their last
    call has. What cannot be loaded leaves what there is, and is not tried again until it changes or is asked for. What
    vanishes from the repository goes on serving until another version takes its place.
    """

    def __init__(self, repository: Repository, registry: ModelRegistry, load: Load, observer: RolloutObserver) -> None:
        """To be made on the event loop. Models that the registry has already are left alone."""
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
        """Look at the repository and follow it. What is wrong there is logged, and leaves what serves."""
        async with self._lock:
            try:
                await self._scan()
            except RepositoryError as error:
                self._complain("", str(error))
                self._observer.repository_failed()
                return
            self._complain("", "")
            for model in self._models.values():
                self._complain(model.name, model.listed.problem)
                await self._bring(model)
                self._settle(model)

    async def watch(self, period: float) -> None:
        """Refresh for ever, every `period` seconds."""
        while True:
            await asyncio.sleep(period)
            try:
                await self.refresh()
            except Exception:
                _log.exception("following the repository failed")

    async def load(self, name: str, version: str = "") -> None:
        """Load a version, or the newest, and keep it in service. Raises what is wrong with it."""
        async with self._lock:
            model = await self._known(name)
            version = version or list(model.listed.versions)[-1]
            _must_be_listed(version, model)
            trial = model.copy()
            trial.asked.add(version)
            await self._change(model, trial, version)

    async def unload(self, name: str, version: str = "") -> None:
        """Take a version out of service, or the whole model with its versions to come, until it is loaded by name.

        Kept in the repository: other servers follow, and it outlasts a restart. Raises Conflict if an alias means the
        version.
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
            await self._bring(model)  # what takes the place comes before what goes
            self._settle(model)

    async def set_alias(self, name: str, alias: str, version: str, share: float = 0.0) -> None:
        """Have an alias mean a version, which is loaded first if need be; written to the repository for other servers.

        Raises what is wrong, and then nothing has changed.
        """
        async with self._lock:
            model = await self._known(name)
            _must_be_listed(version, model)
            if alias in model.listed.versions:
                raise InvalidInput("alias", alias, f"what is no version of {name}")
            await self._change_aliases(model, {**model.listed.aliases, alias: Alias(version, share)}, version)

    async def delete_alias(self, name: str, alias: str) -> None:
        """Forget an alias, in the repository too."""
        async with self._lock:
            model = await self._known(name)
            if alias not in model.listed.aliases:
                there = ", ".join(model.listed.aliases) or "none"
                raise NotFound(f"no alias {alias[:80]!r} of {name}; there are: {there}")
            rest = {other: it for other, it in model.listed.aliases.items() if other != alias}
            await self._change_aliases(model, rest)

    def status(self) -> list[VersionStatus]:
        """All versions that are known, as of the last look."""
        return [status for name in sorted(self._models) for status in self._models[name].status()]

    @property
    def busy(self) -> bool:
        """Whether a version is being loaded or closed, which nothing can stop."""
        return self._thread.busy

    async def close(self, seconds: float = CLOSE_SECONDS) -> None:
        """End what is retiring, with its calls, and wait for it, so long at most: what is being loaded may come first.

        What is in the registry is its owner's to close.
        """
        # No task is cancelled: one that has not begun, or waits for the thread, would close nothing.
        self._closing = True
        if self._retiring:
            await asyncio.wait(self._retiring, timeout=seconds)
        self._thread.close()

    async def _scan(self) -> None:
        found = await self._on_thread(self._repository.scan)
        for name in found.keys() & self._fixed:
            self._complain(name, f"{name} of the repository is not served: the command line gave a bundle of that name")
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
        """Have a model have these aliases; `version` is to be loaded for it, what is wrong with others is no matter."""
        check_aliases(aliases)
        trial = model.copy()
        trial.listed = replace(model.listed, aliases=aliases)
        await self._change(model, trial, version)

    async def _change(self, model: ModelVersions, trial: ModelVersions, version: str) -> None:
        """Have a model be as `trial`, with a version in service if one is named; what is wrong is raised, and then
        nothing has changed.
        """
        if version:
            trial.listed = replace(trial.listed, unloaded=trial.listed.unloaded.without_version(version))
        trial.failed.pop(version, None)
        await self._bring(trial)
        try:
            if error := trial.failure(version):
                raise error
            if trial.listed.unloaded != model.listed.unloaded:
                await self._on_thread(self._repository.write_unloaded, model.name, trial.listed.unloaded)
            if trial.listed.aliases != model.listed.aliases:
                await self._on_thread(self._repository.write_aliases, model.name, trial.listed.aliases)
        except DragomanError:
            if trial.listed.unloaded != model.listed.unloaded:
                with suppress(DragomanError):  # what went wrong first is what matters
                    await self._on_thread(self._repository.write_unloaded, model.name, model.listed.unloaded)
            model.failed = trial.failed
            self._let_go(trial)
            raise
        self._settle(trial)

    async def _bring(self, model: ModelVersions) -> None:
        """Load what should serve and does not. Failures are noted, and may make other versions wanted."""
        while missing := model.missing():
            version, mark = missing
            started = time.monotonic()
            try:
                served = await self._on_thread(self._load, self._repository, model.name, version, model.listed)
            except Exception as error:  # whatever a bundle brings about, the others must be brought all the same
                known = isinstance(error, DragomanError)
                _log.error(
                    "%s version %s is not taken into service: %s", model.name, version, error, exc_info=not known
                )
                model.failed[version] = (
                    mark,
                    error if isinstance(error, DragomanError) else EngineFailure(repr(error)),
                )
                good = False
            else:
                model.loaded[version] = (mark, served)
                good = True
            self._observer.loaded(model.name, time.monotonic() - started, good=good)

    def _settle(self, model: ModelVersions) -> None:
        """Switch to what is there now; from here on, no new call finds what is not wanted any more."""
        before = model.entry
        going = model.settle()
        self._models[model.name] = model
        if model.entry != before:
            self._registry.replace(model.name, model.entry)
            self._observer.show_aliases(model.name, model.entry)
            _log.warning("%s: in service: %s", model.name, _shown(model.entry))
        for served in going:
            self._retire(served)

    def _let_go(self, trial: ModelVersions) -> None:
        for _, served in trial.loaded.values():
            self._retire(served)

    def _retire(self, served: ServedModel) -> None:
        task = asyncio.create_task(self._end(served))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _end(self, served: ServedModel) -> None:
        """Close what no new call can find, once none uses it."""
        while not (served.permits.idle or self._closing):
            await asyncio.sleep(_IDLE_PERIOD)
        await self._on_thread(served.engine.close)
        self._observer.forget(served.description, served.engine)
        await self._on_thread(memory.release)

    async def _on_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.wrap_future(self._thread.submit(partial(work, *args, **kwargs)))

    def _complain(self, about: str, problem: str) -> None:
        """Log a problem once, not at every look."""
        if problem and self._problems.get(about) != problem:
            _log.error("%s", problem)
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
