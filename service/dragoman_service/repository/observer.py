"""Interfaces of the observers of this package. The server's metrics implement them."""

from __future__ import annotations

from typing import Protocol

from dragoman_service.engine.stats import EngineStats
from dragoman_service.repository.models import ModelDescription
from dragoman_service.repository.registry import ModelEntry


class WatchedEngine(Protocol):
    """An engine that reports its health and counts."""

    @property
    def healthy(self) -> bool:
        """False once it cannot work any more, or while it hangs."""
        ...

    def stats(self) -> EngineStats:
        """Current counts. Any thread may call it."""
        ...


class ModelObserver(Protocol):
    """Observer of models that are loaded and closed."""

    def watch(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """Called when a version of a model gets an engine, which replaces the one that it had before."""
        ...

    def forget(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """Called when an engine is closed."""
        ...

    def watch_gpu(self, bus_id: str) -> None:
        """Called when a model runs on the GPU with this PCI bus id."""
        ...


class RolloutObserver(ModelObserver, Protocol):
    """Observer of the versions of a repository, too."""

    def show_aliases(self, name: str, entry: ModelEntry | None) -> None:
        """Called when the versions or aliases in service of a model change. None: no version serves any more."""
        ...

    def loaded(self, name: str, seconds: float, *, good: bool) -> None:
        """Called after an attempt to load a version. `good` says whether it succeeded."""
        ...

    def repository_failed(self) -> None:
        """Called when the repository could not be read."""
        ...
