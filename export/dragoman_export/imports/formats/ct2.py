"""`model.bin` of CTranslate2, binary versions 2 to 6."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType

import numpy as np
import numpy.typing as npt

from dragoman_export.imports.formats.safetensors import from_bfloat16
from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput

VERSIONS = (2, 6)
"""First and last version that is read."""
_TYPES = ("<f4", "i1", "<i2", "<i4", "<f2", "<u2")
"""Code of a type from version 4 on -> NumPy type; the last one is bfloat16."""
_BFLOAT16 = 5
_OLD_TYPES = {4: "<f4", 2: "<i2", 1: "i1"}
"""Bytes of a number -> NumPy type, before version 4."""
_INT16_SCALE = 1000.0
"""Scale of int16 in files that do not store one."""
_MOST_AXES = 8

Scalar = int | float


@dataclass(frozen=True, slots=True)
class Ct2File:
    """The contents of a file. An alias is an entry of its own, with the numbers that it stands for."""

    version: int
    spec: str
    """Name of the kind of model."""
    revision: int
    tensors: dict[str, LazyTensor]
    """Dequantised; the scales are not among them."""
    scalars: dict[str, Scalar]
    texts: dict[str, str]
    """Attributes such as `unk_token`, which stand in the file before version 6."""


@dataclass(frozen=True, slots=True)
class _Stored:
    array: npt.NDArray[np.generic]
    bfloat16: bool

    def floats(self, rows: slice | EllipsisType) -> npt.NDArray[np.generic]:
        return from_bfloat16(self.array[rows].view(np.uint16)) if self.bfloat16 else self.array[rows]


class _Cursor:
    """Reads values one after the other from a file in memory."""

    def __init__(self, path: Path) -> None:
        self.name, size = path.name, path.stat().st_size
        self.data: npt.NDArray[np.uint8] = np.memmap(path, np.uint8, "c") if size else np.empty(0, np.uint8)
        self.place = 0

    def bytes(self, count: int) -> npt.NDArray[np.uint8]:
        start, self.place = self.place, self.place + count
        if self.place > self.data.size:
            allowed = (
                f"a complete file of CTranslate2; this one ends at byte {self.data.size}, before byte {self.place}"
            )
            raise InvalidInput(self.name, "incomplete or damaged", allowed)
        return self.data[start : self.place]

    def number(self, form: str) -> int:
        return int(struct.unpack(form, self.bytes(struct.calcsize(form)).tobytes())[0])

    def text(self) -> str:
        raw = self.bytes(self.number("<H")).tobytes()
        try:
            return raw.removesuffix(b"\0").decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(self.name, "a name that is no UTF-8", "a file of CTranslate2") from error


def read_ct2(path: Path) -> Ct2File:
    """Read the places of all tensors. The numbers stay in the file.

    Raises:
        InvalidInput: the file is damaged or incomplete, or has another version.
    """
    cursor = _Cursor(path)
    version = cursor.number("<I")
    if not VERSIONS[0] <= version <= VERSIONS[1]:
        allowed = f"{VERSIONS[0]} to {VERSIONS[1]}; convert the model anew with CTranslate2, or is this its file?"
        raise InvalidInput(f"{path.name}: binary version", version, allowed)
    spec, revision = cursor.text(), cursor.number("<I")
    stored: dict[str, _Stored] = {}
    for _ in range(cursor.number("<I")):
        name = cursor.text()
        if name in stored:
            raise InvalidInput(f"{path.name}: {name}", "a second tensor of this name", "each name once")
        stored[name] = _variable(cursor, f"{path.name}: {name}", version)
    aliases = [(cursor.text(), cursor.text()) for _ in range(cursor.number("<I"))] if version >= 3 else []
    for alias, name in aliases:
        if name not in stored:
            raise InvalidInput(f"{path.name}: {alias}", name, "the alias of a tensor of the file")
        if alias in stored:
            raise InvalidInput(f"{path.name}: {alias}", "a second tensor of this name", "each name once")
        for suffix in ("", "_scale", "_zero"):
            if name + suffix in stored:
                stored[alias + suffix] = stored[name + suffix]
    if rest := cursor.data.size - cursor.place:
        raise InvalidInput(path.name, f"{rest} bytes behind the last tensor", "a file of CTranslate2 that ends there")
    return _sorted(Ct2File(version, spec, revision, {}, {}, {}), stored, path.name)


def _variable(cursor: _Cursor, where: str, version: int) -> _Stored:
    axes = cursor.number("<B")
    if axes > _MOST_AXES:
        raise InvalidInput(where, f"{axes} axes", f"at most {_MOST_AXES}")
    shape = tuple(cursor.number("<I") for _ in range(axes))
    code = cursor.number("<B")
    known = range(len(_TYPES)) if version >= 4 else list(_OLD_TYPES)
    if code not in known:
        raise InvalidInput(f"{where}: type", code, " or ".join(map(str, known)))
    dtype = np.dtype(_TYPES[code] if version >= 4 else _OLD_TYPES[code])
    count = cursor.number("<I") * (1 if version >= 4 else code)
    if count != math.prod(shape) * dtype.itemsize:
        raise InvalidInput(where, f"{count} bytes", f"the size of shape {list(shape)}")
    return _Stored(cursor.bytes(count).view(dtype).reshape(shape), version >= 4 and code == _BFLOAT16)


def _sorted(file: Ct2File, stored: dict[str, _Stored], where: str) -> Ct2File:
    """Fill in the tensors, scalars and texts. An alias has the same `LazyTensor` as what it stands for."""
    made: dict[int, LazyTensor] = {}
    for name, it in stored.items():
        scale = stored.get(f"{name}_scale")
        if name.endswith("_scale") and name.removesuffix("_scale") in stored:
            continue
        if it.array.ndim == 0:
            file.scalars[name] = it.floats(...).item()
        elif it.array.dtype.kind == "f" or it.bfloat16:
            file.tensors[name] = made.setdefault(id(it), LazyTensor(it.array.shape, it.floats))
        elif it.array.ndim == 1 and it.array.dtype == np.int8 and "/" not in name:
            file.texts[name] = it.array.tobytes().decode(errors="replace")
        else:
            file.tensors[name] = made.setdefault(id(it), _dequantised(f"{where}: {name}", it.array, scale))
    return file


def _dequantised(where: str, array: npt.NDArray[np.generic], scale: _Stored | None) -> LazyTensor:
    """Integers divided by their scale: one for each row, or one for all."""
    if scale is None:
        if array.dtype != np.int16:
            raise InvalidInput(
                where, f"{array.dtype} without {where.rsplit('/', maxsplit=1)[-1]}_scale", "int8 with a scale, or int16"
            )
        return LazyTensor(array.shape, lambda rows: array[rows].astype(np.float32) / np.float32(_INT16_SCALE))
    if array.dtype not in (np.int8, np.int16):
        raise InvalidInput(where, str(array.dtype), "int8, int16 or floating-point numbers")
    if scale.array.shape not in ((), array.shape[:1], (array.shape[0], 1)):
        raise InvalidInput(f"{where}_scale", f"shape {list(scale.array.shape)}", f"one number, or {array.shape[0]}")
    if scale.array.ndim == 0:
        one = np.float32(scale.floats(...))
        return LazyTensor(array.shape, lambda rows: array[rows].astype(np.float32) / one)

    def read_rows(rows: slice) -> npt.NDArray[np.float32]:
        unit = scale.floats(rows).astype(np.float32).reshape(-1, *(1,) * (array.ndim - 1))
        return array[rows].astype(np.float32) / unit

    return LazyTensor(array.shape, read_rows)
