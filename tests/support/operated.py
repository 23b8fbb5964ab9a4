"""A server in this process with a repository, an admin interface, and scripted engines in place of models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.observer import ModelObserver
from dragoman_service.repository.settings import ModelSettings
from dragoman_service.server import server
from support.server_thread import ServerThread, serving
from support.stage import Stage


@dataclass
class Operated:
    """A server, what it loads, and where its operators reach it."""

    stage: Stage
    running: ServerThread
    admin: str

    @property
    def address(self) -> str:
        """For callers."""
        return self.running.address


@contextmanager
def operated(folder: Path, *versions: str, **config: Any) -> Iterator[Operated]:
    """Serve these versions of the model `m`, and whatever else comes into the repository."""
    stage = Stage(folder)
    stage.store.add_manifest("m", *versions)

    def load(*arguments: Any, settings: ModelSettings, observer: ModelObserver) -> ServedModel:
        return stage.load(*arguments)

    admin = f"unix:{folder}/admin"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "load_version", load)
        settings = {"repository": stage.store.url, "watch": 0.0, "cache": folder, "admin": admin, **config}
        with serving([], **settings) as running:
            stage.registry = running.server.registry
            yield Operated(stage, running, admin)
