"""Settings of the models and of the repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dragoman_service.engine.request import MAX_BEAM_SIZE
from dragoman_service.engine.settings import EngineSettings
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.call_caps import CallCaps
from dragoman_service.runtime.settings import DEVICES, GpuOptions

_ENGINE_SETTINGS = ("threads", "lanes", "max_rows", "max_client_rows", "max_queue", "max_queue_tokens")
_CAPS = tuple(field.name for field in fields(CallCaps))
MODEL_SETTINGS = (*_ENGINE_SETTINGS, *_CAPS)
"""Settings that a `serving.toml` may have."""
_SECONDS = ("default_deadline", "max_deadline")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Settings with which every model runs."""

    device: str = "cpu"
    """Device of the models, one of `DEVICES`."""
    gpu: GpuOptions = field(default_factory=GpuOptions)
    """Settings of a model on a GPU."""
    engine: EngineSettings = field(default_factory=EngineSettings)
    """Settings of the engine of a model."""

    caps: CallCaps = field(default_factory=CallCaps)
    """Limits on calls."""
    default_beam_size: int | None = None
    """Beam size of requests that do not choose one; 1 is greedy search. None: that of each model, or 4."""

    def __post_init__(self) -> None:
        most = min(MAX_BEAM_SIZE, -(-self.engine.max_rows // max(1, self.engine.lanes)))
        if self.default_beam_size is not None and not 1 <= self.default_beam_size <= most:
            allowed = f"1 to {most} (no more than max_rows for each lane)"
            raise InvalidInput("default_beam_size", self.default_beam_size, allowed)
        if self.device not in DEVICES:
            raise InvalidInput("device", self.device, ", ".join(DEVICES))

    def with_settings(self, settings: Mapping[str, Any]) -> ModelSettings:
        """A copy with the settings of one model's `serving.toml`. Raises InvalidInput."""
        for name, value in settings.items():
            if name not in MODEL_SETTINGS:
                raise InvalidInput(name, value, f"one of {', '.join(MODEL_SETTINGS)}")
            if type(value) is not int and not (name in _SECONDS and type(value) is float):
                raise InvalidInput(name, value, "a number" if name in _SECONDS else "a whole number")
        engine = {name: value for name, value in settings.items() if name in _ENGINE_SETTINGS}
        caps = {name: value for name, value in settings.items() if name in _CAPS}
        return replace(self, engine=replace(self.engine, **engine), caps=replace(self.caps, **caps))


@dataclass(frozen=True, slots=True)
class RepositorySettings:
    """The repository that a server follows."""

    repository: str = ""
    """Path or URL of a model repository, whose models are served beside those of the command line; empty: none."""
    watch: float = 5.0
    """Seconds between two reads of the repository; 0: it is read when the server starts, and on request."""
    cache: Path = Path()
    """Folder for the bundles of a remote repository; `Path()` is a folder in the user's cache."""

    def __post_init__(self) -> None:
        if not 0 <= self.watch <= 86_400:
            raise InvalidInput("watch", self.watch, "0 to 86400 seconds")
