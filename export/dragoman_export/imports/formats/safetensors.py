"""Files of the format safetensors: a JSON header with places, then the numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dragoman_export.imports.files import parse_json
from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput

_MOST_HEADER = 100 * 2**20
"""Largest header in bytes, the limit of the format."""
_MOST_AXES = 8
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_safetensors(path: Path) -> dict[str, LazyTensor]:
    """Name -> tensor. The numbers stay in the file until they are read.

    Raises:
        InvalidInput: the file is damaged, does not have the size that its header says, or has numbers of another type.
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
    places = {name: _place(f"{path.name}: {name}", entry) for name, entry in header.items()}
    _check_places(path.name, places, size - start)
    return {name: _tensor(path, start + it.start, it) for name, it in places.items()}


def from_bfloat16(words: npt.NDArray[np.uint16]) -> npt.NDArray[np.float32]:
    """Numbers of bfloat16, given as their 16 bits."""
    return (words.astype(np.uint32) << 16).view(np.float32)


@dataclass(frozen=True, slots=True)
class _Place:
    kind: str
    shape: tuple[int, ...]
    start: int
    """First byte, behind the header."""
    end: int


def _place(where: str, entry: Any) -> _Place:
    """An entry of the header. Raises InvalidInput if it contradicts itself."""
    fields = entry if isinstance(entry, dict) else {}
    kind, shape, span = (
        fields.get("dtype"),
        _whole_numbers(fields.get("shape")),
        _whole_numbers(fields.get("data_offsets")),
    )
    if shape is None or span is None or len(span) != 2:
        allowed = f"dtype, data_offsets and shape, whole numbers of at most {_MOST_AXES} axes"
        raise InvalidInput(where, entry, allowed)
    if not isinstance(kind, str) or kind not in _TYPES:
        raise InvalidInput(f"{where}: dtype", kind, " or ".join(_TYPES))
    start, end = span
    if end - start != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize:
        raise InvalidInput(where, f"{end - start} bytes", f"the size of shape {list(shape)} in {kind}")
    return _Place(kind, shape, start, end)


def _whole_numbers(values: Any) -> tuple[int, ...] | None:
    if not isinstance(values, list) or len(values) > _MOST_AXES:
        return None
    return tuple(values) if all(type(it) is int and 0 <= it < 2**63 for it in values) else None


def _check_places(name: str, places: Mapping[str, _Place], size: int) -> None:
    """Check that the tensors lie one after the other in `size` bytes, as the format requires: no two share bytes."""
    end = 0
    for tensor, place in sorted(places.items(), key=lambda it: (it[1].start, it[1].end)):
        if place.end > size:
            allowed = f"bytes within the {size} of the file; is it complete?"
            raise InvalidInput(f"{name}: {tensor}", f"bytes {place.start} to {place.end}", allowed)
        if place.start != end:
            raise InvalidInput(
                f"{name}: {tensor}", f"bytes from {place.start}", f"from {end}, behind the tensor before it"
            )
        end = place.end
    if end != size:
        raise InvalidInput(name, f"{size} bytes of numbers", f"{end}, as its header says")


def _tensor(path: Path, first: int, place: _Place) -> LazyTensor:
    """The tensor at byte `first` of the file."""
    dtype, shape = np.dtype(_TYPES[place.kind]), place.shape

    def read_rows(rows: slice) -> npt.NDArray[np.generic]:
        # Mapped anew each time: what is read takes memory only as long as somebody has the array.
        array: npt.NDArray[Any] = (
            np.memmap(path, dtype, "c", first, shape) if place.end > place.start else np.empty(shape, dtype)
        )
        return from_bfloat16(array[rows]) if place.kind == "BF16" else array[rows]

    return LazyTensor(shape, read_rows)
