"""`model.bin` of CTranslate2, binary version 6, as it is written; `imports.formats.ct2` reads it."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

VERSION, SPEC, REVISION = 6, "TransformerSpec", 7
_CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}
"""NumPy type -> code of a type."""
_LARGEST = 127

Array = npt.NDArray[np.generic]


def write_ct2(path: Path, tensors: Mapping[str, Array], aliases: Mapping[str, str]) -> None:
    """Write a file.

    Args:
        path: The file.
        tensors: Name -> numbers. Those without axes are switches.
        aliases: Further name -> the name of the tensor that it stands for.
    """
    with path.open("wb") as file:
        file.write(struct.pack("<I", VERSION) + _text(SPEC) + struct.pack("<II", REVISION, len(tensors)))
        for name in sorted(tensors):
            array = np.asarray(tensors[name])
            axes = struct.pack(f"<B{array.ndim}I", array.ndim, *array.shape)
            file.write(_text(name) + axes + struct.pack("<BI", _CODES[array.dtype.name], array.nbytes))
            file.write(array.tobytes())
        file.write(struct.pack("<I", len(aliases)))
        for alias in sorted(aliases):
            file.write(_text(alias) + _text(aliases[alias]))


def stored(name: str, array: npt.NDArray[np.float32], precision: str) -> Iterator[tuple[str, Array]]:
    """A matrix and, in int8, its scales: one for each row, the rows divided by them.

    Args:
        name: Its name, which ends with `weight`.
        array: [rows, columns].
        precision: `fp32`, `fp16` or `int8`.
    """
    if precision == "int8":
        largest = np.abs(array).max(axis=1)
        scale = np.float32(_LARGEST) / np.where(largest == 0, np.float32(_LARGEST), largest).astype(np.float32)
        yield name, np.rint(array * scale[:, None]).astype(np.int8)
        yield f"{name}_scale", scale
    else:
        yield name, array.astype(np.float16) if precision == "fp16" else array


def shared(tensors: Iterable[tuple[str, npt.NDArray[np.float32]]]) -> tuple[dict[str, Array], dict[str, str]]:
    """Separate tensors from those that equal one before them: name -> tensor, and alias -> name."""
    kept: dict[str, npt.NDArray[np.float32]] = {}
    aliases: dict[str, str] = {}
    for name, array in tensors:
        same = next(
            (it for it, other in kept.items() if array.shape == other.shape and np.array_equal(array, other)), None
        )
        if same is None:
            kept[name] = array
        else:
            aliases[name] = same
    return dict(kept), aliases


def _text(text: str) -> bytes:
    """The bytes and a NUL, after their number."""
    raw = text.encode() + b"\0"
    return struct.pack("<H", len(raw)) + raw
