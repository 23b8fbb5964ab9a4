"""Pairs of text in files, for corpora that are larger than memory."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dragoman_model.corpus import Pair

_BUFFER_BYTES = 1 << 20
_ITERATED = 10_000


class StoredPairs:
    """A `PairStore` of two files: the text in UTF-8, and where each side ends. They are open only while read."""

    def __init__(self, path: Path) -> None:
        """Begin an empty store: `path` with `.text` and `.ends` behind its name.

        Raises:
            OSError: the files cannot be written.
        """
        self._text_path, self._ends_path = Path(f"{path}.text"), Path(f"{path}.ends")
        self._text, self._ends = bytearray(), list[int]()
        self._size = 0
        self._stored = 0
        self._order: np.ndarray | None = None
        self._mapped: tuple[mmap.mmap, np.ndarray] | None = None
        for file in (self._text_path, self._ends_path):
            file.write_bytes(b"")

    def append(self, pair: Pair, /) -> None:
        """See `PairStore`; OSError if it cannot be written."""
        for text in pair:
            encoded = text.encode()
            self._text += encoded
            self._size += len(encoded)
            self._ends.append(self._size)
        if self._order is not None:
            self._order = np.append(self._order, self._stored)
        self._stored += 1
        if len(self._text) > _BUFFER_BYTES:
            self._flush()

    def extend(self, pairs: Iterable[Pair], /) -> None:
        """See `PairStore`; OSError if it cannot be written."""
        order, first = self._order, self._stored
        self._order = None
        for pair in pairs:
            self.append(pair)
        self._order = None if order is None else np.concatenate((order, np.arange(first, self._stored)))

    def keep_only(self, indices: Sequence[int]) -> None:
        """See `PairStore`."""
        chosen = np.array(indices, dtype=np.int64)
        self._order = chosen if self._order is None else self._order[chosen]

    def remove(self) -> None:
        """Delete the files; the pairs are gone."""
        self._mapped = None
        for file in (self._text_path, self._ends_path):
            file.unlink(missing_ok=True)

    def __len__(self) -> int:
        return self._stored if self._order is None else len(self._order)

    def __getitem__(self, index: int, /) -> Pair:
        if not 0 <= index < len(self):
            raise IndexError(index)
        text, ends = self._read()
        at = index if self._order is None else int(self._order[index])
        start, middle, end = ends[2 * at : 2 * at + 3].tolist()
        return text[start:middle].decode(), text[middle:end].decode()

    def __iter__(self) -> Iterator[Pair]:
        text, ends = self._read()
        for first in range(0, len(self), _ITERATED):
            last = min(first + _ITERATED, len(self))
            at = np.arange(first, last) if self._order is None else self._order[first:last]
            sides = (ends[2 * at].tolist(), ends[2 * at + 1].tolist(), ends[2 * at + 2].tolist())
            for start, middle, end in zip(*sides, strict=True):
                yield text[start:middle].decode(), text[middle:end].decode()

    def _flush(self) -> None:
        with self._text_path.open("ab") as file:
            file.write(self._text)
        with self._ends_path.open("ab") as file:
            if not file.tell():
                file.write(bytes(8))  # where the first begins
            file.write(np.array(self._ends, dtype=np.int64).tobytes())
        self._text.clear()
        self._ends.clear()
        self._mapped = None

    def _read(self) -> tuple[mmap.mmap | bytes, np.ndarray]:
        if self._ends:
            self._flush()
        if not self._size:
            return b"", np.zeros(2 * self._stored + 1, dtype=np.int64)
        if self._mapped is None:
            with self._text_path.open("rb") as file:
                text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._mapped = text, np.asarray(np.memmap(self._ends_path, dtype=np.int64, mode="r"))
        return self._mapped
