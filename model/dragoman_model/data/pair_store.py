"""A store of pairs in files, for corpora that are larger than memory."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from dragoman_model.data.corpus import Pair
from dragoman_model.data.repeats import hash_of, repeated

_BUFFER_BYTES = 1 << 20
"""Bytes of text that are written together."""
_ITERATED = 10_000
"""Pairs whose offsets are read together."""


class StoredPairs:
    """A `PairStore` in three files: the text in UTF-8, the offset at which each side ends, and the order of the pairs.

    Memory holds at most 1 MB of text that is not yet written, and 9 bytes per pair while pairs are dropped.
    """

    def __init__(self, path: Path) -> None:
        """Make an empty store. Its files are `path` with the suffixes `.text`, `.ends` and `.order`.

        Raises:
            OSError: the files cannot be written.
        """
        self._text_path, self._ends_path, self._order_path = (Path(f"{path}.{name}") for name in _FILES)
        self._text, self._ends = bytearray(), list[int]()
        self._size = 0
        self._stored = 0
        self._order: np.ndarray | None = None
        self._mapped: tuple[mmap.mmap, np.ndarray] | None = None
        for file in (self._text_path, self._ends_path):
            file.write_bytes(b"")

    def append(self, pair: Pair, /) -> None:
        """See `PairStore`. Raises OSError if the files cannot be written."""
        self.extend([pair])

    def extend(self, pairs: Iterable[Pair], /) -> None:
        """See `PairStore`. Raises OSError if the files cannot be written."""
        first = self._stored
        for pair in pairs:
            for text in pair:
                encoded = text.encode()
                self._text += encoded
                self._size += len(encoded)
                self._ends.append(self._size)
            self._stored += 1
            if len(self._text) > _BUFFER_BYTES:
                self._flush()
        if self._order is not None and self._stored > first:
            self._set_order(np.concatenate((self._order, np.arange(first, self._stored))))

    def keep_only(self, indices: Sequence[int] | np.ndarray) -> None:
        """See `PairStore`. Raises OSError if the files cannot be written."""
        chosen = np.asarray(indices, dtype=np.int64)
        self._set_order(chosen if self._order is None else self._order[chosen])

    def repeats(self, among: int | None = None) -> np.ndarray:
        """See `PairStore`. Pairs with equal hashes count as equal: see `hash_of`.

        Raises:
            OSError: the disk has no room for a temporary file of 8 bytes per pair.
        """
        if not len(self):
            return np.zeros(0, dtype=bool)
        text, _ = self._read()
        with tempfile.TemporaryFile(dir=self._text_path.parent) as file:
            for places in self._places():
                hashes = [hash_of(text[start:middle] + b"\0" + text[middle:end]) for start, middle, end in places]
                file.write(np.array(hashes, dtype=np.uint64).tobytes())
            file.flush()
            return repeated(np.memmap(file, dtype=np.uint64, mode="r"), len(self) if among is None else among)

    def discard(self) -> None:
        """See `PairStore`. Removes the files."""
        self._mapped = self._order = None
        for file in (self._text_path, self._ends_path, self._order_path):
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
        text, _ = self._read()
        for places in self._places():
            for start, middle, end in places:
                yield text[start:middle].decode(), text[middle:end].decode()

    def _places(self) -> Iterator[Iterator[tuple[int, int, int]]]:
        """Offsets of some pairs at a time: the begin of the source, its end (where the target begins), the last end."""
        _, ends = self._read()
        for first in range(0, len(self), _ITERATED):
            last = min(first + _ITERATED, len(self))
            at = np.arange(first, last) if self._order is None else np.asarray(self._order[first:last])
            yield zip(ends[2 * at].tolist(), ends[2 * at + 1].tolist(), ends[2 * at + 2].tolist(), strict=True)

    def _set_order(self, order: np.ndarray) -> None:
        self._order = None
        self._order_path.unlink(missing_ok=True)  # a memory-mapped file must not be truncated
        order.tofile(self._order_path)
        self._order = np.memmap(self._order_path, dtype=np.int64, mode="r") if len(order) else order

    def _flush(self) -> None:
        with self._text_path.open("ab") as file:
            file.write(self._text)
        with self._ends_path.open("ab") as file:
            if not file.tell():
                file.write(bytes(8))  # the offset at which the first pair begins
            file.write(np.array(self._ends, dtype=np.int64).tobytes())
        self._text.clear()
        self._ends.clear()
        self._mapped = None

    def _read(self) -> tuple[mmap.mmap | bytes, np.ndarray]:
        """The text, and the offsets of its sides: 0, then the end of each side."""
        if self._ends:
            self._flush()
        if not self._size:
            return b"", np.zeros(2 * self._stored + 1, dtype=np.int64)
        if self._mapped is None:
            with self._text_path.open("rb") as file:
                text = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            self._mapped = text, np.asarray(np.memmap(self._ends_path, dtype=np.int64, mode="r"))
        return self._mapped


_FILES = ("text", "ends", "order")
