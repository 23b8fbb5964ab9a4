"""The keys and values of all running rows, in host memory. Independent of the scheduling."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_service.bundle.manifest import CacheLayout

SMALLEST_CAPACITY = 32
"""Smallest number of positions. Unused capacity costs cache misses of the processor, so capacity grows in buckets."""


def capacity_for(length: int, limit: int) -> int:
    """The smallest bucket, 32, 64, 128 ... or `limit`, that holds `length` positions.

    Raises:
        ValueError: `length` is above `limit`.
    """
    if length > limit:
        raise ValueError(f"{length} positions; the model's limit is {limit}")
    capacity = SMALLEST_CAPACITY
    while capacity < length:
        capacity *= 2
    return min(capacity, limit)


class AttentionCache:
    """Keys and values of one kind of attention: `array` [layers, 2, max_rows, heads, capacity, head_dim].

    Its type is the layout's. Keys are at index 0 of the second axis, values at index 1. `array[layer, which, :rows]` is
    contiguous, as the decoder graph requires. A row in all layers is one slice.
    """

    def __init__(self, layout: CacheLayout, max_rows: int, limit: int) -> None:
        """Start with the smallest capacity. `limit` is the most positions of a row."""
        self._layout = layout
        self._max_rows = max_rows
        self._limit = limit
        self._arrays: dict[int, npt.NDArray[Any]] = {}
        self.array = self._array_for(capacity_for(1, limit))

    @property
    def capacity(self) -> int:
        """Number of positions that a row has room for."""
        return int(self.array.shape[4])

    def reserve(self, length: int, kept_rows: int) -> None:
        """Make room for `length` positions a row.

        Rows below `kept_rows` keep their contents. If `kept_rows` is 0, the capacity may also shrink. The memory of
        every capacity is kept, because at low concurrency the capacity changes several times a second.

        Raises:
            ValueError: `length` is above the limit.
        """
        capacity = capacity_for(length, self._limit)
        if capacity == self.capacity or (kept_rows and capacity < self.capacity):
            return
        old, self.array = self.array, self._array_for(capacity)
        if kept_rows:
            self.array[:, :, :kept_rows, :, : old.shape[4]] = old[:, :, :kept_rows]

    def copy_row(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` positions of a row over those of another, in all layers."""
        self.array[:, :, target, :, :length] = self.array[:, :, source, :, :length]

    def write_row(self, row: int, values: npt.NDArray[Any]) -> None:
        """Set the first positions of a row to `values` [layers, 2, heads, length, head_dim]."""
        self.array[:, :, row, :, : values.shape[3]] = values

    @property
    def num_bytes(self) -> int:
        """Bytes of the arrays of all capacities used so far, touched or not: less than three times the largest one."""
        return sum(array.nbytes for array in self._arrays.values())

    def _array_for(self, capacity: int) -> npt.NDArray[Any]:
        layout = self._layout
        if capacity not in self._arrays:
            # Zeros, although they are written before they are read: the system allocates zeroed pages on first use.
            shape = (layout.decoder_layers, 2, self._max_rows, layout.num_heads, capacity, layout.head_dim)
            self._arrays[capacity] = np.zeros(shape, layout.dtype)
        return self._arrays[capacity]


class KvCache:
    """The two caches of a decoder. `self_attention` gains a position each step; `cross_attention` is set at joining."""

    def __init__(
        self, layout: CacheLayout, *, max_rows: int, max_target_positions: int, max_source_tokens: int
    ) -> None:
        self.max_rows = max_rows
        self.self_attention = AttentionCache(layout, max_rows, max_target_positions)
        self.cross_attention = AttentionCache(layout, max_rows, max_source_tokens)

    @property
    def num_bytes(self) -> int:
        """Bytes of both caches, touched or not."""
        return self.self_attention.num_bytes + self.cross_attention.num_bytes

    @property
    def capacities(self) -> tuple[int, int]:
        """Capacities of self-attention and cross-attention. The same pair always has the same memory."""
        return self.self_attention.capacity, self.cross_attention.capacity

    def reserve(self, *, target_length: int, source_length: int, kept_rows: int) -> None:
        """Make room for the longest row of each cache; see `AttentionCache.reserve`."""
        self.self_attention.reserve(target_length, kept_rows)
        self.cross_attention.reserve(source_length, kept_rows)

    def copy_row(self, source: int, target: int, length: int, cross: int) -> None:
        """Copy a row's first `length` target positions and first `cross` source positions, in all layers."""
        self.self_attention.copy_row(source, target, length)
        if cross:
            self.cross_attention.copy_row(source, target, cross)
