from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_service.bundle import Bundle


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint with random weights: see `support.tiny_checkpoint.random_model`."""
    from support.tiny_checkpoint import write_checkpoint  # noqa: PLC0415  # needs PyTorch, which tests of the service do not

    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle exported from `tiny_checkpoint`; its folder is named tiny/1. Not to be changed by tests."""
    from dragoman_export.exporter import ExportOptions, export_checkpoint  # noqa: PLC0415

    output = tmp_path_factory.mktemp("bundles") / "tiny" / "1"
    bundle, _ = export_checkpoint(tiny_checkpoint, output, ExportOptions(name="tiny", version="1"))
    return bundle
