"""What the repository room reports, and to whom: the server's metrics are one."""

from __future__ import annotations

from typing import Protocol

from dragoman_service.engine.lanes import RequestEngine
from dragoman_service.engine.observer import EngineObserver, EngineStats
from dragoman_service.repository.models import ModelDescription
from dragoman_service.repository.registry import ModelEntry


class WatchedEngine(RequestEngine, Protocol):
    """An engine with counts."""

    def stats(self) -> EngineStats:
        """Counts at this moment; from any thread."""
        ...


class ModelObserver(Protocol):
    """Told of models as they come and go."""

    def observer(self, model: ModelDescription) -> EngineObserver:
        """The observer to give to the engine of a model."""
        ...

    def watch(self, model: ModelDescription, engine: WatchedEngine) -> None:
        """A version of a model has an engine, in place of the one that it had before."""
        ...

    def forget(self, model: ModelDescription, engine: object) -> None:
        """An engine has ended; None is that of a version that could not be started."""
        ...

    def watch_gpu(self, bus_id: str) -> None:
        """A model runs on the GPU at a place of the bus."""
        ...


class RolloutObserver(ModelObserver, Protocol):
    """Told besides what becomes of a repository's versions."""

    def show_aliases(self, name: str, entry: ModelEntry | None) -> None:
        """A model has other versions or aliases in service now; None: none."""
        ...

    def loaded(self, name: str, seconds: float, *, good: bool) -> None:
        """A version was loaded, or could not be."""
        ...

    def repository_failed(self) -> None:
        """The repository could not be looked at."""
        ...
