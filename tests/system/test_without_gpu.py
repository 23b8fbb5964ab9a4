"""What a person sees who asks for a GPU where there is none: a real process, and a real machine without one."""

from __future__ import annotations

import time

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.runtime.ort import onnxruntime
from support.server_process import run_dragoman, server_process

pytestmark = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this ONNX Runtime is for GPUs"
)


def test_cuda_fails_at_once_and_says_what_is_missing(tiny_fp16_bundle: Bundle) -> None:
    began = time.monotonic()
    done = run_dragoman("serve", tiny_fp16_bundle.path, "--device", "cuda", "--port", "0", "--metrics-port", "0")
    assert time.monotonic() - began < 30
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "device: got 'cuda'; the installed ONNX Runtime" in done.stderr
    assert "pip install '.[gpu]'" in done.stderr


def test_a_bundle_that_is_not_for_gpus_is_told_how_to_become_one(tiny_int8_bundle: Bundle) -> None:
    done = run_dragoman("serve", tiny_int8_bundle.path, "--device", "cuda", "--port", "0", "--metrics-port", "0")
    assert done.returncode == 1
    assert "computes in int8, and GPUs serve fp16: dragoman export --precision fp16" in done.stderr


def test_auto_serves_on_the_cpu_and_says_so(tiny_fp16_bundle: Bundle) -> None:
    with server_process([tiny_fp16_bundle.path], "--device", "auto") as server:
        done = run_dragoman("translate", "--server", server.address, "5 6", "--beam-size", "1")
        assert done.returncode == 0
        assert server.metrics()["dragoman_model_info"] == 1
    assert any("tiny runs on the CPU: the installed ONNX Runtime" in line for line in server.errors)
