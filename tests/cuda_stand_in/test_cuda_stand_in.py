"""The CUDA provider of ONNX Runtime itself, with the real graphs, on a machine without a GPU: all but the kernels.

It is downloaded into a place of its own, as it must never stand beside the ONNX Runtime for CPUs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cuda_stand_in.build import build
from dragoman_service.bundle.bundle import Bundle
from support.foreign.imports import imported_bundle

PACKAGES = ("onnxruntime-gpu>=1.30,<1.33", "nvidia-cuda-runtime>=13,<14", "nvidia-cuda-crt>=13,<14")

IMPORTS = ("opus-mt-en-de", "mbart-50", "ct2-opennmt-float32")
"""Imports with the operators that our own models do not have."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (shutil.which("gcc") and shutil.which("nm")), reason="needs gcc and nm"),
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that has the provider and the stand-ins."""
    packages, libraries = tmp_path_factory.mktemp("packages"), tmp_path_factory.mktemp("libraries")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(packages), *PACKAGES]
    subprocess.run(pip, check=True)
    provider = packages / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    build(provider, packages / "nvidia" / "cu13" / "include", libraries)
    path = os.pathsep.join([str(packages), str(Path(__file__).parents[1]), *sys.path])
    return {**os.environ, "LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": path}


@pytest.fixture(scope="module", params=["tiny", *IMPORTS])
def found(
    request: pytest.FixtureRequest,
    environment: dict[str, str],
    tiny_fp16_bundle: Bundle,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, Any]:
    """What `probe` prints, of our own model and of imports."""
    bundle = tiny_fp16_bundle
    if request.param != "tiny":
        bundle = imported_bundle(str(request.param), tmp_path_factory.mktemp("imported"), "fp16")
    probe = Path(__file__).with_name("probe.py")
    done = subprocess.run(
        [sys.executable, probe, bundle.path], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(result)
    return result


def test_both_graphs_run_on_the_gpu_alone(found: dict[str, Any]) -> None:
    """ONNX Runtime refuses to open them otherwise; and nothing is copied between the GPU and the host but by us."""
    steps = [*found["captured"].values(), *found["eager"].values()]
    assert {place for step in steps for place in step["copies"]} <= {"on the GPU"}


def test_a_captured_step_is_one_launch(found: dict[str, Any]) -> None:
    captured = found["captured"]
    assert captured["second"] == {"launches": 0, "replays": 1, "captures": 0, "copies": {}}
    assert captured["four"] == {"launches": 0, "replays": 4, "captures": 0, "copies": {}}
    assert captured["wide"] == captured["second"]


def test_an_adjusted_step_is_launched_kernel_by_kernel(found: dict[str, Any]) -> None:
    assert found["captured"]["adjusted"]["replays"] == 0
    assert found["captured"]["adjusted"]["launches"] > found["eager"]["second"]["launches"] > 0


def test_a_step_with_selected_rows_is_launched_kernel_by_kernel(found: dict[str, Any]) -> None:
    assert found["captured"]["selected"]["replays"] == 0
    assert found["captured"]["selected"]["launches"] > found["eager"]["second"]["launches"]


def test_without_captures_every_kernel_is_launched_every_time(found: dict[str, Any]) -> None:
    eager = found["eager"]
    assert eager["second"]["replays"] == 0
    assert eager["four"]["launches"] == 4 * eager["second"]["launches"]


def test_no_kernel_is_launched_for_nothing(found: dict[str, Any]) -> None:
    """An adjustment of nothing, keys of no position: a GPU refuses a launch without a block."""
    assert found["empty launches"] == 0
