"""GPU memory of a runner: KV caches, and the buffers for inputs and outputs of a step. Independent of the graphs."""

from __future__ import annotations

from typing import Any

import numpy as np

from dragoman_service.bundle.manifest import CacheLayout
from dragoman_service.engine.plan import Adjustments
from dragoman_service.runtime.cuda import Cuda, DeviceArray
from dragoman_service.runtime.selection import Selection, flat_index


class CudaCache:
    """Keys and values of all rows: `self_attention` and `cross_attention` are
    [layers, 2, max_rows, heads, capacity, head_dim].

    They have full capacity from the start: on a GPU, attention reads only the positions that are filled.
    """

    def __init__(self, cuda: Cuda, layout: CacheLayout, *, max_rows: int, target: int, source: int) -> None:
        """`target` and `source` are the most positions of a row in either cache."""
        self._cuda = cuda

        def empty(capacity: int) -> DeviceArray:
            shape = (layout.decoder_layers, 2, max_rows, layout.num_heads, capacity, layout.head_dim)
            return cuda.empty(shape, layout.dtype)

        self.self_attention = empty(target)
        self.cross_attention = empty(source)

    @property
    def num_bytes(self) -> int:
        """Bytes of both caches."""
        return self.self_attention.nbytes + self.cross_attention.nbytes

    def copy_row(self, source: int, target: int, length: int, cross: int, stream: int) -> None:
        """Queue the copy of a row's first `length` target positions and first `cross` source positions."""
        array = self.self_attention
        for layer in range(array.shape[0]):
            both = array[layer, :, :, :, :length]
            self._cuda.copy(both[:, target], both[:, source], stream)
        if cross:
            array = self.cross_attention
            for layer in range(array.shape[0]):
                both = array[layer, :, :, :, :cross]
                self._cuda.copy(both[:, target], both[:, source], stream)

    def write_source(self, row: int, values: DeviceArray, stream: int) -> None:
        """Queue the copy of `values` [layers, 2, heads, length, head_dim] to the first source positions of a row."""
        for layer in range(values.shape[0]):
            self._cuda.copy(self.cross_attention[layer, :, row, :, : values.shape[3]], values[layer], stream)


class AdjustmentBuffer:
    """Buffers for up to `room` adjustments of a step, in pinned host memory and on the GPU."""

    def __init__(self, cuda: Cuda, room: int, words: int) -> None:
        """`words` is V of the graph, for indices in its flattened logits; 0 for format 2, whose graphs take pairs."""
        self.room, self._words = room, words
        self._cuda = cuda
        shapes: tuple[tuple[tuple[int, ...], Any], ...] = (
            ((room,) if words else (room, 2), np.int64),
            ((room,), np.float32),
            ((room,), np.float32),
        )
        self._on_gpu = [cuda.empty(*shape) for shape in shapes]
        self._on_host = [cuda.pinned(*shape) for shape in shapes]

    def upload(self, adjustments: Adjustments, stream: int) -> None:
        """Queue the copies to the GPU."""
        count = len(adjustments)
        index, penalty, bias = self._on_host
        index[:count] = flat_index(adjustments, self._words) if self._words else adjustments.index
        penalty[:count], bias[:count] = adjustments.penalty, adjustments.bias
        for there, here in zip(self.columns(count), self._on_host, strict=True):
            self._cuda.copy(there, here[:count], stream)

    def columns(self, count: int) -> list[DeviceArray]:
        """Index [count] or [count, 2], penalties and biases [count] of the first `count` adjustments, on the GPU."""
        return [array[:count] for array in self._on_gpu]


class SelectionBuffer:
    """Buffers for up to `room` selected rows of a step over `words` words, in pinned host memory and on the GPU.

    The masks are zero at first.
    """

    def __init__(self, cuda: Cuda, room: int, words: int) -> None:
        self.room = room
        self._cuda = cuda
        self._on_gpu = cuda.empty((room,), np.int64), cuda.empty((room, words), np.float32)
        self._on_host = cuda.pinned((room,), np.int64), cuda.pinned((room, words), np.float32)

    def upload(self, selection: Selection, stream: int) -> tuple[DeviceArray, DeviceArray]:
        """Queue the copies to the GPU. Returns the rows and the masks there."""
        on_host, masks_on_host = self._on_host
        on_host[: len(selection.rows)], masks_on_host[: len(selection.masks)] = selection.rows, selection.masks
        rows, masks = self.part(len(selection.rows), len(selection.masks))
        for there, here in zip((rows, masks), self._on_host, strict=True):
            self._cuda.copy(there, here[: there.shape[0]], stream)
        return rows, masks

    def part(self, rows: int, masks: int) -> tuple[DeviceArray, DeviceArray]:
        """The first rows and the first masks, on the GPU."""
        return self._on_gpu[0][:rows], self._on_gpu[1][:masks]


def split_inputs(block: Any, max_rows: int) -> tuple[Any, Any, Any]:
    """Views of a block of bytes, on host or GPU: tokens int64, positions and source lengths int32, all [max_rows]."""
    at = (0, 8 * max_rows, 12 * max_rows)
    kinds = (np.int64, np.int32, np.int32)
    return tuple(_view(block, start, (max_rows,), kind) for start, kind in zip(at, kinds, strict=True))


def output_bytes(rows: int, candidates: int) -> int:
    """Size of a block for `split_outputs`."""
    return -(-(12 * rows * candidates + 8 * rows) // 8) * 8


def split_outputs(block: Any, rows: int, candidates: int) -> tuple[Any, Any, Any]:
    """Views of a block of bytes, on host or GPU: candidate ids int64 and their log-probabilities float32, both
    [rows, candidates], and aligned source positions int64 [rows, 1]."""
    shape, ids = (rows, candidates), 8 * rows * candidates
    aligned = _view(block, ids, (rows, 1), np.int64)
    return _view(block, 0, shape, np.int64), _view(block, ids + 8 * rows, shape, np.float32), aligned


def _view(block: Any, start: int, shape: tuple[int, ...], dtype: Any) -> Any:
    if isinstance(block, DeviceArray):
        return DeviceArray.at(block.address + start, shape, dtype)
    nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return block[start : start + nbytes].view(dtype).reshape(shape)
