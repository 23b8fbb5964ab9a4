"""A server in this process with a repository and an admin interface. Its models have fake workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.repository import loading
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.observer import ModelObserver
from dragoman_service.repository.settings import ModelSettings
from support.server_thread import ServerThread, serving
from support.stage import Stage


@dataclass
class Operated:
    """A server, its repository, and the address of its admin interface."""

    stage: Stage
    running: ServerThread
    admin: str

    @property
    def address(self) -> str:
        """The address for callers."""
        return self.running.address


@contextmanager
def operated(folder: Path, *versions: str, **config: Any) -> Iterator[Operated]:
    """Run a server on a repository with these versions of the model `m`. Tests may add others."""
    stage = Stage(folder)
    stage.store.add_manifest("m", *versions)

    def load(*arguments: Any, settings: ModelSettings, observer: ModelObserver) -> ServedModel:
        return stage.load(*arguments)

    admin = f"unix:{folder}/admin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "load_version", load)
        settings = {"repository": stage.store.url, "watch": 0.0, "cache": folder, "admin": admin, **config}
        with serving([], **settings) as running:
            stage.registry = running.server.registry
            yield Operated(stage, running, admin)
