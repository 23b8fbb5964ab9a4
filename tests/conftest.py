from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test reads or fills the cache of tokenised text of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRAGOMAN_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_connection_of_whoever_runs_the_tests() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SERVER", "TLS", "TLS_CA", "TLS_CERT", "TLS_KEY", "TOKEN", "TOKEN_FILE"):
            patch.delenv(f"DRAGOMAN_{name}", raising=False)
        yield


@pytest.fixture(scope="session", autouse=True)
def _quick_exports() -> Iterator[None]:
    """Random models translate every sentence to its full length, so that few sentences take as long as many."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("torch"):  # tests of the service need no PyTorch
            patch.setattr("dragoman_export.alignment.MOST_SENTENCES", 4)
            patch.setattr("dragoman_export.copy_rate.MOST_SENTENCES", 4)
        yield


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a checkpoint with random weights: see `support.tiny_checkpoint.random_model`."""
    from support.tiny_checkpoint import write_checkpoint  # noqa: PLC0415  # needs PyTorch, which tests of the service do not

    return write_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture(scope="session")
def tiny_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle exported from `tiny_checkpoint`; its folder is named tiny/1. Not to be changed by tests."""
    return _exported(tiny_checkpoint, tmp_path_factory.mktemp("bundles"), "fp32")


@pytest.fixture(scope="session")
def tiny_int8_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The int8 bundle exported from `tiny_checkpoint`; its folder is named tiny/1. Not to be changed by tests."""
    return _exported(tiny_checkpoint, tmp_path_factory.mktemp("int8_bundles"), "int8")


@pytest.fixture(scope="session")
def tiny_fp16_bundle(tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The fp16 bundle exported from `tiny_checkpoint`; its folder is named tiny/1. Not to be changed by tests."""
    return _exported(tiny_checkpoint, tmp_path_factory.mktemp("fp16_bundles"), "fp16")


@pytest.fixture(scope="session", params=["fp32", "fp16", "int8"])
def any_tiny_bundle(request: pytest.FixtureRequest) -> Bundle:
    """`tiny_bundle`, then `tiny_fp16_bundle`, and then `tiny_int8_bundle`."""
    name = "tiny_bundle" if request.param == "fp32" else f"tiny_{request.param}_bundle"
    bundle: Bundle = request.getfixturevalue(name)
    return bundle


def _exported(checkpoint: Path, folder: Path, precision: str) -> Bundle:
    from dragoman_export.exporter import ExportOptions, export_checkpoint  # noqa: PLC0415
    from dragoman_export.sentences import BUILT_IN  # noqa: PLC0415

    calibration = folder / "calibration.txt"
    calibration.write_text("\n".join(BUILT_IN["en"]), encoding="utf-8")
    options = ExportOptions(name="tiny", version="1", precision=precision, calibration=calibration)
    bundle, _ = export_checkpoint(checkpoint, folder / "tiny" / "1", options)
    return bundle
