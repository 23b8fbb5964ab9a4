"""Memory, copies, streams and events of one NVIDIA GPU, through NVIDIA's binding of the CUDA runtime.

Work is queued on streams and done in the order of each. Nothing here waits for it but `Cuda.wait`.
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
    """An array in the memory of a GPU: an address, a shape and strides, sliced as NumPy slices. Not to be read here."""

    __slots__ = ("_base", "_layout")

    def __init__(self, base: int, layout: npt.NDArray[Any]) -> None:
        self._base = base
        self._layout = layout

    @classmethod
    def at(cls, address: int, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
        """Contiguous memory that begins at an address."""
        one = np.zeros(1, dtype)
        strides = np.cumprod([one.itemsize, *reversed(shape[1:])])[::-1] if shape else ()
        # One number in host memory, dressed up as the whole: NumPy does the sums of slicing, and reads nothing.
        layout = as_strided(one, shape, [int(stride) for stride in strides])
        return cls(address - one.ctypes.data, layout)

    @property
    def address(self) -> int:
        """Of its first number."""
        return self._base + self._layout.ctypes.data

    @property
    def shape(self) -> tuple[int, ...]:
        """Of every axis."""
        return self._layout.shape

    @property
    def strides(self) -> tuple[int, ...]:
        """Bytes from one to the next, of every axis."""
        return self._layout.strides

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers."""
        return self._layout.dtype

    @property
    def nbytes(self) -> int:
        """Of its numbers, without what lies between them."""
        return self._layout.nbytes

    def __getitem__(self, key: Any) -> DeviceArray:
        return DeviceArray(self._base, self._layout[key])


AnyArray = DeviceArray | npt.NDArray[Any]


class Cuda:
    """The first GPU that the process sees."""

    ort_device = "cuda"
    """What ONNX Runtime calls it."""

    def __init__(self, runtime: Any) -> None:
        """`runtime` is `cuda.bindings.runtime`, or something that does the same."""
        self._runtime = runtime
        self._taken: list[tuple[str, Any]] = []
        """What was handed out: the call that gives it back, and what it takes."""
        self._any_direction = runtime.cudaMemcpyKind.cudaMemcpyDefault  # addresses show on which side they are
        self._call("cudaSetDevice", 0)

    def empty(self, shape: Sequence[int], dtype: npt.DTypeLike) -> DeviceArray:
        """Memory of the GPU, zeroed: what was never written is multiplied by nought at times, and must not be NaN.

        Raises:
            DeviceError: too little is left.
        """
        nbytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        (address,) = self._call("cudaMalloc", nbytes)
        self._taken.append(("cudaFree", int(address)))
        self._call("cudaMemset", int(address), 0, nbytes)
        self._call("cudaStreamSynchronize", 0)  # no other stream waits for the one that this is on
        return DeviceArray.at(int(address), shape, dtype)

    def pinned(self, shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Host memory that the GPU can copy from and to by itself."""
        nbytes = max(1, int(np.prod(shape)) * np.dtype(dtype).itemsize)
        (address,) = self._call("cudaMallocHost", nbytes)
        self._taken.append(("cudaFreeHost", int(address)))
        raw = (ctypes.c_uint8 * nbytes).from_address(int(address))
        block = np.ctypeslib.as_array(raw)[: int(np.prod(shape)) * np.dtype(dtype).itemsize]
        return block.view(dtype).reshape(shape)

    def copy(self, target: AnyArray, source: AnyArray, stream: int) -> None:
        """Queue a copy between arrays of one shape, on the GPU or in pinned memory.

        Raises:
            ValueError: other shapes, or memory that is scattered over more than three axes.
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
        """A queue of work; its handle as a number, which is how ONNX Runtime takes it."""
        (stream,) = self._call("cudaStreamCreateWithFlags", 1)  # not held up by the default stream
        self._taken.append(("cudaStreamDestroy", int(stream)))
        return int(stream)

    def new_event(self) -> Any:
        """A mark in a stream."""
        (event,) = self._call("cudaEventCreateWithFlags", 2)  # no times
        self._taken.append(("cudaEventDestroy", event))
        return event

    def mark(self, event: Any, stream: int) -> None:
        """Set a mark behind what is queued."""
        self._call("cudaEventRecord", event, stream)

    def follow(self, stream: int, event: Any) -> None:
        """What is queued on a stream from here on begins after the mark is reached."""
        self._call("cudaStreamWaitEvent", stream, event, 0)

    def wait(self, stream: int) -> None:
        """Until all that is queued on a stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def memory(self) -> tuple[int, int]:
        """Bytes of the GPU that are free, and all of them."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def bus_id(self) -> str:
        """Where the GPU is on the PCI bus, which is how the tools of the driver know it."""
        (text,) = self._call("cudaDeviceGetPCIBusId", 32, 0)
        return bytes(text).split(b"\0")[0].decode()

    def close(self) -> None:
        """Give back all that was handed out; a second time, nothing happens.

        A GPU that has failed takes nothing back: that is logged, and the rest tried.
        """
        while self._taken:
            try:
                self._call(*self._taken.pop())
            except DeviceError as error:
                _log.warning("not given back: %s", error)

    def _call(self, name: str, *arguments: Any) -> tuple[Any, ...]:
        error, *values = getattr(self._runtime, name)(*arguments)
        if int(error):
            hint = ": fewer --max-rows need less memory" if int(error) == _OUT_OF_MEMORY else ""
            raise DeviceError(f"{name}: {in_words(self._runtime, error)}{hint}")
        return tuple(values)


def _address(array: AnyArray) -> int:
    return array.address if isinstance(array, DeviceArray) else array.ctypes.data


def _boxes(*arrays: AnyArray) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Arrays of one shape as boxes of bytes: width, height and depth, and of each array the strides of the last two."""
    shapes = {array.shape for array in arrays}
    dtypes = {array.dtype for array in arrays}
    if len(shapes) != 1 or len(dtypes) != 1:
        raise ValueError(f"a copy between arrays of shapes {shapes} and types {dtypes}")
    (shape,), (dtype,) = shapes, dtypes
    axes = [
        (size, [array.strides[axis] for array in arrays]) for axis, size in enumerate(shape) if size != 1
    ]  # outermost first
    width = dtype.itemsize
    while axes and all(stride == width for stride in axes[-1][1]):  # what lies side by side in all of them
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
