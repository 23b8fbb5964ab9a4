from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from support.server_process import ServerProcess, server_process

BUNDLED = Path(__file__).parents[2] / "deploy" / "models" / "en-de" / "1"


@pytest.fixture(scope="session")
def bundle(request: pytest.FixtureRequest) -> Path:
    """The bundled model, or one of random weights where it is not there."""
    if (BUNDLED / "manifest.json").exists():
        return BUNDLED
    tiny: Bundle = request.getfixturevalue("tiny_bundle")
    return tiny.path


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[ServerProcess]:
    with server_process([bundle], "--max-rows", "16") as running:
        yield running
