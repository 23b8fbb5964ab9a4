"""Tokenised text that is kept on disk from one start to the next, and read from there instead of into memory."""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from dragoman_model.batches import Tokenized, TokenizedCorpus
from dragoman_service.errors import InvalidInput

log = logging.getLogger(__name__)

FORMAT = 1
"""Of an entry. It is part of every key, and goes up whenever other files, or other ids from the same text, are written:
a change of cleaning, augmentation or tokenising is one."""

_ARRAYS = ("source_ids", "source_starts", "target_ids", "target_starts", "weights")


def default_folder() -> Path:
    """Where the cache is unless told otherwise: $DRAGOMAN_CACHE, or `dragoman/text` where the system keeps caches."""
    if chosen := os.environ.get("DRAGOMAN_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG_CACHE_HOME has relative paths ignored.
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "dragoman" / "text"


def key_of(*parts: Any) -> str:
    """What JSON-ready values, and the format, decide: 32 hexadecimal digits."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache has of one text."""

    train: TokenizedCorpus
    weights: np.ndarray
    tokenizer_model: bytes
    details: dict[str, Any]
    """As given to `EntryWriter.finish`."""


class TokenCache:
    """A folder of entries, each a folder by the name of its key; safe to be used by several processes at a time.

    An entry is written under the name `KEY.partial` and renamed when complete, so that an entry is complete whenever a
    writer is killed. A writer holds a lock, which ends with it: what writers left that are gone is removed by the next.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, key: str) -> Entry | None:
        """The entry, its arrays memory-mapped; None if there is none that can be used, and the log says why."""
        folder = self.folder / key
        try:
            described = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
            if described["format"] != FORMAT:
                raise ValueError(f"format {described['format']} instead of {FORMAT}")
            if described["key"] != key:
                raise ValueError(f"made for {described['key']}")
            for name, size in described["files"].items():
                if (found := (folder / name).stat().st_size) != size:
                    raise ValueError(f"{name} has {found:,} bytes instead of {size:,}")
            model = (folder / "tokenizer.model").read_bytes()
            if hashlib.sha256(model).hexdigest() != described["tokenizer"]:
                raise ValueError("tokenizer.model was changed")
            arrays = [np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _ARRAYS]
            train = TokenizedCorpus.from_arrays(*arrays[:4])
            if len(train) != len(arrays[4]) or len(train) != described["pairs"]:
                raise ValueError("its files do not belong together")
            return Entry(train, arrays[4], model, described["details"])
        except FileNotFoundError as error:
            if folder.exists():
                log.warning("%s is incomplete (%s is missing) and made anew", folder, error.filename)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be used (%s) and is made anew", folder, error)
        return None

    def alias(self, key: str) -> str | None:
        """The key that `set_alias` has noted for this one."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.folder / f"{key}.alias").read_text(encoding="ascii")
        return None

    def set_alias(self, key: str, other: str) -> None:
        """Note that what `key` asks for is the entry `other`: a vocabulary to be learned is known once it has been."""
        with self._errors():
            temporary = self.folder / f"{key}.alias.{os.getpid()}"
            temporary.write_text(other, encoding="ascii")
            temporary.replace(self.folder / f"{key}.alias")

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """An empty folder for files of a new entry, removed in the end; others who want to write this key wait.

        Raises:
            InvalidInput: the folder cannot be written, or is full; whatever was begun is removed.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._errors())
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context(self._lock_path(key).open("ab"))
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._remove_leftovers()
            partial = self.folder / f"{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            partial.mkdir()
            yield partial

    def publish(self, partial: Path, key: str) -> None:
        """Make what `partial` has the entry `key`, unless there is a good one by now."""
        if self.open(key) is None:
            shutil.rmtree(self.folder / key, ignore_errors=True)
            _flush_to_disk(partial)
            partial.rename(self.folder / key)
            _flush_to_disk(self.folder)

    def _lock_path(self, key: str) -> Path:
        return self.folder / f"{key}.lock"

    def _remove_leftovers(self) -> None:
        for partial in self.folder.glob("*.partial"):
            with self._lock_path(partial.stem).open("ab") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue  # its writer lives
                log.info("%s was left by a run that ended early, and is removed", partial)
                shutil.rmtree(partial, ignore_errors=True)

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            allowed = f"a folder with room that can be written ({error.strerror}); --cache chooses another"
            raise InvalidInput("--cache", str(self.folder), allowed) from error


class EntryWriter:
    """Writes the files of an entry little by little; what it has taken is in no list of its own."""

    def __init__(self, folder: Path, vocab_size: int) -> None:
        self._folder = folder
        ids = np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.int32)
        dtypes = (ids, np.dtype(np.int64), ids, np.dtype(np.int64), np.dtype(np.float64))
        self._files = {
            name: _GrowingArray(folder / f"{name}.npy", dtype) for name, dtype in zip(_ARRAYS, dtypes, strict=True)
        }
        self._ends = {"source": 0, "target": 0}
        for side in self._ends:
            self._files[f"{side}_starts"].append(np.zeros(1))
        self.pairs = 0

    def add(self, tokenized: Tokenized, weight: float) -> None:
        """Append pairs that are seen `weight` times in an epoch."""
        sides = {
            "source": (tokenized.source_ids, tokenized.source_lengths),
            "target": (tokenized.target_ids, tokenized.target_lengths),
        }
        for side, (ids, lengths) in sides.items():
            self._files[f"{side}_ids"].append(ids)
            self._files[f"{side}_starts"].append(self._ends[side] + np.cumsum(lengths))
            self._ends[side] += len(ids)
        self._files["weights"].append(np.full(len(tokenized.kept), weight))
        self.pairs += len(tokenized.kept)

    def finish(self, key: str, tokenizer_model: bytes, details: dict[str, Any]) -> None:
        """Complete the files and describe them; `details` are JSON-ready."""
        for file in self._files.values():
            file.close()
        (self._folder / "tokenizer.model").write_bytes(tokenizer_model)
        names = [*(f"{name}.npy" for name in _ARRAYS), "tokenizer.model"]
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
            _flush_to_disk(self._folder / name)

    def abandon(self) -> None:
        """Close the files; whoever made the folder removes it."""
        for file in self._files.values():
            file.abandon()


class _GrowingArray:
    """A .npy file of one dimension that is appended to; its length is written when it is closed."""

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
        if self._file.tell() != self._header_size:  # numpy leaves room for a longer length
            raise RuntimeError("the header of an array has grown")
        self._file.close()

    def abandon(self) -> None:
        with contextlib.suppress(OSError):  # closing writes what is buffered, and the disk may be full
            self._file.close()

    def _write_header(self) -> None:
        description = {"descr": self._dtype.str, "fortran_order": False, "shape": (self._length,)}
        np.lib.format.write_array_header_1_0(self._file, description)


def _flush_to_disk(path: Path) -> None:
    """Without it, a power cut could leave files of the right size that are full of zeros."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def settings_of(value: Any) -> Any:
    """A dataclass as JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(value)))
