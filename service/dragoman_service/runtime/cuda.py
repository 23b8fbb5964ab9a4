"""Memory, copies, streams and events of one NVIDIA GPU, through NVIDIA's Python binding of the CUDA runtime.

Work is queued on streams, each of which runs it in order. `Cuda.wait` waits for the work of a stream.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from dragoman_service.runtime.device import DeviceError, in_words

_log = logging.getLogger(__name__)

_OUT_OF_MEMORY = 2


class DeviceArray:
    """An array in GPU memory: an address, a shape and strides, sliced like a NumPy array. The host cannot read it."""

    __slots__ = ("_base", "_layout")

    def __init__(self, base: int, layout: npt.NDArray[Any]) -> None:
        self._base = base
        self._layout = layout

    @classmethod
    def at(cls, address: int, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
        """A contiguous array at an address of GPU memory."""
        one = np.zeros(1, dtype)
        strides = np.cumprod([one.itemsize, *reversed(shape[1:])])[::-1] if shape else ()
        # A view of one number in host memory with the shape of the whole: NumPy computes offsets and strides of slices
        # with it, and never reads the elements.
        layout = as_strided(one, shape, [int(stride) for stride in strides])
        return cls(address - one.ctypes.data, layout)

    @property
    def address(self) -> int:
        """Address of the first element."""
        return self._base + self._layout.ctypes.data

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of every axis."""
        return self._layout.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes between two neighbours along every axis."""
        return self._layout.strides

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the elements."""
        return self._layout.dtype

    @property
    def nbytes(self) -> int:
        """Bytes of the elements, without gaps between them."""
        return self._layout.nbytes

    def __getitem__(self, key: Any) -> DeviceArray:
        return DeviceArray(self._base, self._layout[key])


AnyArray = DeviceArray | npt.NDArray[Any]


class Cuda:
    """The first GPU that the process sees."""

    ort_device = "cuda"
    """Name of the device in ONNX Runtime."""

    def __init__(self, runtime: Any) -> None:
        """`runtime` is `cuda.bindings.runtime`, or a stand-in with the same functions."""
        self._runtime = runtime
        self._resources: list[tuple[str, Any]] = []
        """Memory, streams and events to free: the name of the call that frees one, and its argument."""
        self._any_direction = runtime.cudaMemcpyKind.cudaMemcpyDefault  # CUDA tells host from device by the address
        self._call("cudaSetDevice", 0)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
        """Allocate zeroed GPU memory. Kernels may multiply unwritten elements by zero, so they must not be NaN.

        Raises:
            DeviceError: the GPU has too little free memory.
        """
        nbytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        (address,) = self._call("cudaMalloc", nbytes)
        self._resources.append(("cudaFree", int(address)))
        self._call("cudaMemset", int(address), 0, nbytes)
        self._call("cudaStreamSynchronize", 0)  # the other streams do not wait for the default stream
        return DeviceArray.at(int(address), shape, dtype)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Allocate page-locked host memory, which asynchronous copies need."""
        nbytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        (address,) = self._call("cudaMallocHost", nbytes)
        self._resources.append(("cudaFreeHost", int(address)))
        raw = (ctypes.c_uint8 * nbytes).from_address(int(address))
        block = np.ctypeslib.as_array(raw)[: int(np.prod(shape)) * np.dtype(dtype).itemsize]
        return block.view(dtype).reshape(shape)

    def copy(self, target: AnyArray, source: AnyArray, stream: int) -> None:
        """Queue a copy between arrays of the same shape and type, on the GPU or in pinned memory.

        Raises:
            ValueError: the shapes or types differ, or the memory is strided over more than three axes.
        """
        width, height, depth, pitches = _boxes(target, source)
        if not width:
            return
        if height == depth == 1:
            self._call("cudaMemcpyAsync", _address(target), _address(source), width, self._any_direction, stream)
            return
        if depth == 1:
            (to, _), (from_, _) = pitches
            arguments = (_address(target), to, _address(source), from_, width, height, self._any_direction, stream)
            self._call("cudaMemcpy2DAsync", *arguments)
            return
        runtime = self._runtime
        parameters = runtime.cudaMemcpy3DParms()
        for field, array, (pitch, plane) in zip(("dstPtr", "srcPtr"), (target, source), pitches, strict=True):
            pointer = runtime.cudaPitchedPtr()
            pointer.ptr, pointer.pitch, pointer.xsize, pointer.ysize = _address(array), pitch, width, plane // pitch
            setattr(parameters, field, pointer)
        extent = runtime.cudaExtent()
        extent.width, extent.height, extent.depth = width, height, depth
        parameters.extent = extent
        parameters.kind = self._any_direction
        self._call("cudaMemcpy3DAsync", parameters, stream)

    def new_stream(self) -> int:
        """Create a stream. Returns its handle as a number, the form that ONNX Runtime takes."""
        (stream,) = self._call("cudaStreamCreateWithFlags", 1)  # non-blocking: independent of the default stream
        self._resources.append(("cudaStreamDestroy", int(stream)))
        return int(stream)

    def new_event(self) -> Any:
        """Create an event, which marks a place in a stream."""
        (event,) = self._call("cudaEventCreateWithFlags", 2)  # without timing
        self._resources.append(("cudaEventDestroy", event))
        return event

    def mark(self, event: Any, stream: int) -> None:
        """Record an event behind the work that is queued on a stream."""
        self._call("cudaEventRecord", event, stream)

    def follow(self, stream: int, event: Any) -> None:
        """Make later work of a stream wait for an event."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def wait(self, stream: int) -> None:
        """Block until all work queued on a stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def memory(self) -> tuple[int, int]:
        """Free and total bytes of GPU memory."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def bus_id(self) -> str:
        """PCI bus id of the GPU, by which the driver's tools identify it."""
        (text,) = self._call("cudaDeviceGetPCIBusId", 32, 0)
        return bytes(text).split(b"\0")[0].decode()

    def close(self) -> None:
        """Free all memory, streams and events. A second call does nothing.

        A GPU that has failed cannot free them: the error is logged, and the others are still tried.
        """
        while self._resources:
            try:
                self._call(*self._resources.pop())
            except DeviceError as error:
                _log.warning("could not be freed: %s", error)

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        error, *values = getattr(self._runtime, name)(*arguments)
        if int(error):
            hint = ": fewer --max-rows need less memory" if int(error) == _OUT_OF_MEMORY else ""
            raise DeviceError(f"{name}: {in_words(self._runtime, error)}{hint}")
        return tuple(values)


def _address(array: AnyArray) -> int:
    return array.address if isinstance(array, DeviceArray) else array.ctypes.data


def _boxes(*arrays: AnyArray) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Arrays of one shape as 3-D boxes of bytes.

    Returns:
        Width, height and depth of the box, and for each array the strides in bytes of height and of depth.
    """
    shapes = {array.shape for array in arrays}
    dtypes = {array.dtype for array in arrays}
    if len(shapes) != 1 or len(dtypes) != 1:
        raise ValueError(f"a copy between arrays of shapes {shapes} and types {dtypes}")
    (shape,), (dtype,) = shapes, dtypes
    axes = [
        (size, [array.strides[axis] for array in arrays]) for axis, size in enumerate(shape) if size != 1
    ]  # outermost first
    width = dtype.itemsize
    while axes and all(stride == width for stride in axes[-1][1]):  # axes that are contiguous in all arrays
        width *= axes.pop()[0]
    merged: list[tuple[int, list[int]]] = []
    for size, strides in axes:
        if merged and all(outer == size * inner for outer, inner in zip(merged[-1][1], strides, strict=True)):
            merged[-1] = (merged[-1][0] * size, strides)
        else:
            merged.append((size, strides))
    if len(merged) > 2:
        raise ValueError(f"a copy of shape {shape} is scattered over {len(merged) + 1} axes; at most 3 are possible")
    none = (1, [width] * len(arrays))
    (depth, planes), (height, pitches) = [none] * (2 - len(merged)) + merged
    if len(merged) == 2 and any(plane % pitch for plane, pitch in zip(planes, pitches, strict=True)):
        raise ValueError(f"a copy of shape {shape}: planes are not a whole number of lines apart")
    return width if 0 not in shape else 0, height, depth, list(zip(pitches, planes, strict=True))
