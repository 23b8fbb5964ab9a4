"""Choice of the device that a model runs on, and the reasons why a GPU cannot be used."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from dragoman_service.errors import DragomanError

CUDA_PRECISION = "fp16"
"""Precision of the bundles whose graphs run on a GPU."""
_LIBRARIES = ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudnn.so.9")
"""Libraries that ONNX Runtime's CUDA provider needs."""
_GPU_EXTRA = "pip uninstall -y onnxruntime && pip install '.[gpu]'"


class DeviceError(DragomanError):
    """The requested device is not available, or has failed. The message says what is missing and how to install it."""

    reason = "device"


def choose_device(wanted: str, precision: str) -> tuple[str, str]:
    """Choose the device of a bundle.

    Args:
        wanted: "cpu", "cuda", or "auto": the GPU if there is one and the bundle's precision is `CUDA_PRECISION`.
        precision: Precision of the bundle.

    Returns:
        "cpu" or "cuda", and with "auto" the reason why it is not the GPU, else an empty string.

    Raises:
        DeviceError: `wanted` is "cuda", and the GPU is not available or the bundle has another precision.
    """
    if wanted == "cpu":
        return "cpu", ""
    problem = _precision_problem(precision) or cuda_problem()
    if not problem:
        return "cuda", ""
    if wanted == "cuda":
        raise DeviceError(f"device: got 'cuda'; {problem}")
    return "cpu", problem


def cuda_problem() -> str:
    """Why this process cannot use a GPU, and how to solve it; empty if it can."""
    from dragoman_service.runtime.ort import onnxruntime  # noqa: PLC0415 - takes a while to import, and `--device cpu` does not need it

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return (
            f"the installed ONNX Runtime ({onnxruntime.__version__}) is the one for CPUs; get the other: {_GPU_EXTRA}"
        )
    try:
        runtime = cuda_runtime()
    except ImportError as error:
        return f"the CUDA runtime cannot be loaded ({error}); get it: {_GPU_EXTRA}"
    onnxruntime.preload_dlls()  # ONNX Runtime does not search the folders into which the `gpu` extra installs them
    missing = [name for name in _LIBRARIES if not loads(name)]
    if missing:  # ONNX Runtime's own message would not name them
        return f"libraries of CUDA are missing: {', '.join(missing)}; get them: {_GPU_EXTRA}"
    return no_gpu(runtime)


def loads(library: str) -> bool:
    """Whether a shared library can be loaded or is loaded already."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def in_words(runtime: Any, error: Any) -> str:
    """The CUDA runtime's message for an error, with its number."""
    _, text = runtime.cudaGetErrorString(error)
    return f"{text.decode() if isinstance(text, bytes) else text} (CUDA error {int(error)})"


def no_gpu(runtime: Any) -> str:
    """Why the CUDA runtime finds no GPU; empty if it finds one."""
    error, count = runtime.cudaGetDeviceCount()
    if int(error):
        return (
            f"no NVIDIA GPU can be used: {in_words(runtime, error)}. Check `nvidia-smi`; in a container, give "
            "it the GPU (`docker run --gpus all`); the driver must be for CUDA 13, version 580 or newer"
        )
    if not count:
        return "this process sees no NVIDIA GPU; check CUDA_VISIBLE_DEVICES and `nvidia-smi`"
    return ""


def cuda_runtime() -> Any:
    """NVIDIA's Python binding of the CUDA runtime. Raises ImportError without the `gpu` extra."""
    return importlib.import_module("cuda.bindings.runtime")


def _precision_problem(precision: str) -> str:
    if precision == CUDA_PRECISION:
        return ""
    return f"this bundle computes in {precision}, and GPUs serve {CUDA_PRECISION}: dragoman export --precision fp16"
