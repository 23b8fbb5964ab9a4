from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle


@pytest.fixture(scope="session")
def bundle(tiny_bundle: Bundle) -> Path:
    """The folder of a model of random weights, which starts within a second."""
    return tiny_bundle.path
