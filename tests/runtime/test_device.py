from __future__ import annotations

import pytest

from dragoman_service.runtime import device
from dragoman_service.runtime.device import DeviceError, choose_device, no_gpu
from dragoman_service.runtime.ort import onnxruntime
from support.fake_cuda import FakeRuntime


@pytest.fixture
def gpu_build(monkeypatch: pytest.MonkeyPatch) -> FakeRuntime:
    """An ONNX Runtime for GPUs, and a GPU."""
    runtime = FakeRuntime()
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None)
    monkeypatch.setattr(device, "cuda_runtime", lambda: runtime)
    monkeypatch.setattr(device, "loads", lambda library: True)
    return runtime


def test_the_cpu_is_taken_without_a_question() -> None:
    assert choose_device("cpu", "fp16") == ("cpu", "")


@pytest.mark.parametrize("wanted", ["cuda", "auto"])
def test_the_gpu_is_taken_where_there_is_one(gpu_build: FakeRuntime, wanted: str) -> None:
    assert choose_device(wanted, "fp16") == ("cuda", "")


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="there is the other one")
def test_the_runtime_for_cpus_is_named() -> None:
    with pytest.raises(DeviceError, match=r"device: got 'cuda'; the installed ONNX Runtime .* pip install '\.\[gpu\]'"):
        choose_device("cuda", "fp16")
    used, problem = choose_device("auto", "fp16")
    assert used == "cpu"
    assert "is the one for CPUs" in problem


def test_a_binding_that_is_missing_is_named(gpu_build: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ImportError("No module named 'cuda'")

    monkeypatch.setattr(device, "cuda_runtime", missing)
    with pytest.raises(DeviceError, match=r"cannot be loaded \(No module named 'cuda'\); get it: pip"):
        choose_device("cuda", "fp16")


def test_libraries_that_are_missing_are_named(gpu_build: FakeRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "loads", lambda library: "cudnn" not in library)
    with pytest.raises(DeviceError, match=r"missing: libcudnn\.so\.9; get them: pip"):
        choose_device("cuda", "fp16")


def test_whether_a_library_loads() -> None:
    assert device.loads("libc.so.6")
    assert not device.loads("libnowhere.so.1")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_other_bundles_stay_on_the_cpu(gpu_build: FakeRuntime, precision: str) -> None:
    with pytest.raises(DeviceError, match=f"computes in {precision}, and GPUs serve fp16: dragoman export"):
        choose_device("cuda", precision)
    assert choose_device("auto", precision)[0] == "cpu"


@pytest.mark.parametrize(
    ("runtime", "message"),
    [
        (FakeRuntime(), ""),
        (FakeRuntime(devices=0), "this process sees no NVIDIA GPU; check CUDA_VISIBLE_DEVICES"),
        (FakeRuntime(error=100), "no CUDA-capable device is detected (CUDA error 100). Check `nvidia-smi`"),
    ],
)
def test_what_keeps_the_gpu_away_is_said(runtime: FakeRuntime, message: str) -> None:
    assert message in no_gpu(runtime)
    assert bool(message) == bool(no_gpu(runtime))
