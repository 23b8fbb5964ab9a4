"""The writer of an entry of the cache of tokenised text."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from dragoman_model.data.tokenized import Tokenized

FORMAT = 3
"""The version of the format of an entry. An entry of another version is made again. The version must be increased with
every change of the files, or of the ids for the same text: a change of cleaning, augmentation, tokenisation or
BPE-dropout."""

ARRAYS = ("source_ids", "source_starts", "target_ids", "target_starts", "lengths", "weights")
"""Names of the array files, without `.npy`."""
_STARTS = ("source_starts", "target_starts")


class EntryWriter:
    """Writes the files of an entry bit by bit, so that the entry may be larger than memory."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        """Create the files in an empty folder. Raises OSError if they cannot be written."""
        ids, number = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32), np.dtype(np.int64)
        kinds: tuple[np.dtype[Any], ...] = (ids, number, ids, number, np.dtype(np.int32), np.dtype(np.float64))
        dtypes = dict(zip(ARRAYS, kinds, strict=True))
        self._folder = folder
        self._files = {name: _GrowingArray(folder / f"{name}.npy", dtype) for name, dtype in dtypes.items()}
        self._ends: dict[str, int] = dict.fromkeys(_STARTS, 0)
        for name in self._ends:
            self._files[name].append(np.zeros(1))
        self.pairs = 0

    def add(self, tokenized: Tokenized, weight: float | np.ndarray) -> None:
        """Append pairs.

        Args:
            tokenized: The ids of the pairs.
            weight: How often each pair occurs in an epoch: one number for all, or [pairs].
        """
        self._append("source_ids", tokenized.source_ids, "source_starts", tokenized.source_lengths)
        self._append("target_ids", tokenized.target_ids, "target_starts", tokenized.target_lengths)
        self._files["lengths"].append(tokenized.lengths.ravel())
        self._files["weights"].append(np.broadcast_to(weight, len(tokenized.kept)))
        self.pairs += len(tokenized.kept)

    def finish(self, key: str, tokenizer_model: bytes, details: dict[str, Any]) -> None:
        """Complete the files and write `cache.json`, their description, with the JSON-ready `details`."""
        for file in self._files.values():
            file.close()
        (self._folder / "tokenizer.model").write_bytes(tokenizer_model)
        names = [*(f"{name}.npy" for name in self._files), "tokenizer.model"]
        described = {
            "format": FORMAT,
            "key": key,
            "pairs": self.pairs,
            "tokenizer": hashlib.sha256(tokenizer_model).hexdigest(),
            "files": {name: (self._folder / name).stat().st_size for name in names},
            "details": details,
        }
        (self._folder / "cache.json").write_text(json.dumps(described, indent=1), encoding="utf-8")
        for name in (*names, "cache.json"):
            flush_to_disk(self._folder / name)

    def abandon(self) -> None:
        """Close the files. The owner of the folder removes it."""
        for file in self._files.values():
            file.abandon()

    def _append(self, name: str, values: np.ndarray, ends: str, lengths: np.ndarray) -> None:
        self._files[name].append(values)
        self._files[ends].append(self._ends[ends] + np.cumsum(lengths))
        self._ends[ends] += len(values)


class _GrowingArray:
    """A one-dimensional .npy file that values are appended to. `close` writes its final length."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self._dtype, self._length = dtype, 0
        self._file: IO[bytes] = path.open("wb")
        self._write_header()
        self._header_size = self._file.tell()

    def append(self, values: Sequence[float] | np.ndarray) -> None:
        self._file.write(np.asarray(values).astype(self._dtype).tobytes())
        self._length += len(values)

    def close(self) -> None:
        self._file.seek(0)
        self._write_header()
        if self._file.tell() != self._header_size:  # NumPy pads the header, so that a longer length fits in
            raise RuntimeError("the header of a .npy file has grown and overwritten values")
        self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):  # close writes the buffer, and the disk may be full
            self._file.close()

    def _write_header(self) -> None:
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, description)


def flush_to_disk(path: Path) -> None:
    """Flush a file or folder to the disk (fsync). Without it, a power cut may leave files that are full of zeros."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
