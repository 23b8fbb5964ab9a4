"""Files of the format safetensors: a JSON header with places, then the numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_export.imports.files import parse_json
from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput

_MOST_HEADER = 100 * 2**20
"""Largest header in bytes, the limit of the format."""
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Name -> tensor. The numbers stay in the file until they are read.

    Raises:
        InvalidInput: the file is damaged, shorter than its header says, or has numbers of another type.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MOST_HEADER):
            raise InvalidInput(path.name, f"{size} bytes", "a file of safetensors; this one has no complete header")
        header = parse_json(file.read(length), f"{path.name}: header")
    if not isinstance(header, dict):
        raise InvalidInput(f"{path.name}: header", header, "a JSON object")
    header.pop("__metadata__", None)
    start = 8 + length
    return {name: _tensor(path, start, size - start, name, entry) for name, entry in header.items()}


def from_bfloat16(words: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Numbers of bfloat16, given as their 16 bits."""
    return (words.astype(np.uint32) << 16).view(np.float32)


def _tensor(path: Path, first: int, size: int, name: str, entry: Any) -> LazyTensor:
    """The tensor of an entry of the header, among `size` bytes of numbers from byte `first` of the file."""
    where = f"{path.name}: {name}"
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(map(int, entry["shape"])), map(int, entry["data_offsets"])
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput(where, entry, "dtype, shape and data_offsets") from error
    if kind not in _TYPES:
        raise InvalidInput(f"{where}: dtype", kind, " or ".join(_TYPES))
    dtype = np.dtype(_TYPES[kind])
    if not 0 <= start <= end <= size:
        raise InvalidInput(where, f"bytes {start} to {end}", f"bytes within the {size} of the file; is it complete?")
    if min(shape, default=0) < 0 or end - start != math.prod(shape) * dtype.itemsize:
        raise InvalidInput(where, f"{end - start} bytes", f"the size of shape {list(shape)} in {kind}")

    def read_rows(rows: slice) -> npt.NDArray[np.generic]:
        # Mapped anew each time: what is read takes memory only as long as somebody has the array.
        array: npt.NDArray[Any] = (
            np.memmap(path, dtype, "c", first + start, shape) if end > start else np.empty(shape, dtype)
        )
        return from_bfloat16(array[rows]) if kind == "BF16" else array[rows]

    return LazyTensor(shape, read_rows)
