"""Archives of NumPy arrays, in which Marian stores models."""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput

_DAMAGE = (OSError, ValueError, zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, KeyError)
_MOST_SPECIAL = 2**20
"""Largest array that is not a tensor, in bytes. A larger one is read as empty: what is needed has a few kilobytes."""
_MOST_RATIO, _SMALL = 100, 64 * 2**20
"""Largest quotient of the sizes of an array and of its compressed form, and the bytes up to which it may be larger."""


def read_npz(path: Path) -> tuple[dict[str, LazyTensor], dict[str, bytes]]:
    """Name -> tensor, each read when it is asked for, and the bytes of the arrays named `special:`.

    Raises:
        InvalidInput: the file is damaged, or has arrays of objects, which would need a pickle.
    """
    tensors, special = {}, {}
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                name = entry.filename.removesuffix(".npy")
                if entry.file_size > max(_SMALL, _MOST_RATIO * entry.compress_size):
                    raise InvalidInput(f"{path.name}: {name}", f"{entry.file_size} bytes", "less, for its packed size")
                if name in tensors or name in special:
                    raise InvalidInput(f"{path.name}: {name}", "a second array of this name", "each name once")
                if name.startswith("special:"):
                    special[name] = _read(path, entry.filename).tobytes() if entry.file_size <= _MOST_SPECIAL else b""
                    continue
                with archive.open(entry) as member:
                    shape, dtype = _header(member)
                if dtype.kind != "f":
                    raise InvalidInput(f"{path.name}: {name}", str(dtype), "an array of floating-point numbers")
                if math.prod(shape) * dtype.itemsize > entry.file_size:
                    raise InvalidInput(f"{path.name}: {name}", f"shape {list(shape)}", "numbers that are in the file")
                tensors[name] = LazyTensor(shape, _reader(path, entry.filename))
    except _DAMAGE as error:
        raise InvalidInput(path.name, "damaged", f"an archive of NumPy arrays ({error})") from error
    return tensors, special


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic]]:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(member)
    return shape, dtype


def _read(path: Path, member: str) -> npt.NDArray[np.generic]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            array: npt.NDArray[np.generic] = np.lib.format.read_array(file, allow_pickle=False)
            return array
    except _DAMAGE as error:
        raise InvalidInput(f"{path.name}: {member}", "damaged", f"a NumPy array ({error})") from error


def _reader(path: Path, member: str) -> Callable[[slice], npt.NDArray[np.generic]]:
    return lambda rows: _read(path, member)[rows]
