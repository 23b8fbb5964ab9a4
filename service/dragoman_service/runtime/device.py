"""Where a model can run: what was asked for, what this machine has, and a plain word where the two do not meet."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from dragoman_service.errors import DragomanError

CUDA_PRECISION = "fp16"
"""Of bundles whose graphs run on a GPU from end to end."""
_LIBRARIES = ("libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10", "libcudnn.so.9")
"""What ONNX Runtime's CUDA provider needs."""
_GPU_EXTRA = "pip uninstall -y onnxruntime && pip install '.[gpu]'"


class DeviceError(DragomanError):
    """A device that was asked for cannot be had, or has failed; the message says what is missing and how to get it."""

    reason = "device"


def choose_device(wanted: str, precision: str) -> tuple[str, str]:
    """Where a bundle shall run, "cpu" or "cuda"; and why it is not the GPU, if "auto" had to make do without.

    Args:
        wanted: "cpu", "cuda" or "auto": the GPU where there is one and the bundle is for it.
        precision: Of the bundle.

    Raises:
        DeviceError: "cuda", and the GPU cannot be had or the bundle is not for it.
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
    """What keeps this process from using a GPU, and how to mend it; nothing if it can."""
    import onnxruntime  # noqa: PLC0415 - takes a while to import, and `--device cpu` need not know

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return (
            f"the installed ONNX Runtime ({onnxruntime.__version__}) is the one for CPUs; get the other: {_GPU_EXTRA}"
        )
    try:
        runtime = cuda_runtime()
    except ImportError as error:
        return f"the CUDA runtime cannot be loaded ({error}); get it: {_GPU_EXTRA}"
    onnxruntime.preload_dlls()  # those that the `gpu` extra installs, where ONNX Runtime would not look
    missing = [name for name in _LIBRARIES if not loads(name)]
    if missing:  # ONNX Runtime would only say that it cannot run on the GPU
        return f"libraries of CUDA are missing: {', '.join(missing)}; get them: {_GPU_EXTRA}"
    return no_gpu(runtime)


def loads(library: str) -> bool:
    """Whether a shared library can be loaded, or is already."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def in_words(runtime: Any, error: Any) -> str:
    """What the CUDA runtime says of an error of its own."""
    _, text = runtime.cudaGetErrorString(error)
    return f"{text.decode() if isinstance(text, bytes) else text} (CUDA error {int(error)})"


def no_gpu(runtime: Any) -> str:
    """Why the CUDA runtime finds no GPU; nothing if it does."""
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
