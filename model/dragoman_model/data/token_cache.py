"""The cache of tokenised text on disk. A later start uses its entries, which are memory-mapped."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dragoman_model.data.batches import TokenizedCorpus
from dragoman_model.data.entry_writer import ARRAYS, FORMAT, flush_to_disk
from dragoman_model.data.file_lock import locked
from dragoman_service.errors import InvalidInput

log = logging.getLogger(__name__)


def default_folder() -> Path:
    """The default folder: $DRAGOMAN_CACHE, or `dragoman/text` in $XDG_CACHE_HOME or `~/.cache`."""
    if chosen := os.environ.get("DRAGOMAN_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME", "")
    # According to the XDG Base Directory specification, a relative path is ignored.
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "dragoman" / "text"


def key_of(*parts: Any) -> str:
    """The key of JSON-ready values: 32 hexadecimal digits of their SHA-256."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the cache: a tokenised text."""

    key: str
    train: TokenizedCorpus
    weights: np.ndarray
    """[pairs] How often each pair occurs in an epoch."""
    tokenizer_model: bytes
    details: dict[str, Any]
    """The details that were given to `EntryWriter.finish`."""


class TokenCache:
    """A folder of entries. An entry is a folder, named by its key. Several processes may use the cache at a time.

    A writer makes an entry as `KEY.partial` and renames it when it is complete, so that a killed writer leaves no
    incomplete entry. It holds a lock while it writes, which the kernel releases if it is killed. The next writer
    removes the partial entries whose lock is free.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, key: str, quiet: bool = False) -> Entry | None:
        """The entry, with memory-mapped arrays; None if it is missing or unusable.

        The reason for which an entry is unusable is logged, unless `quiet`.
        """
        folder, why = self.folder / key, ""
        try:
            return _read(folder)
        except FileNotFoundError as error:
            if folder.exists():
                why = f"is incomplete ({error.filename} is missing)"
        except _OtherFormat as error:
            why = str(error)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"cannot be used ({error})"
        if why and not quiet:
            log.warning("%s %s and is made again", folder, why)
        return None

    def get(self, key: str, write: Callable[[Path], None]) -> Entry:
        """The entry. If there is none, `write` is called with an empty folder, to which it must write the files.

        Raises:
            InvalidInput: the cache cannot be written, or is full.
        """
        if entry := self.open(key):
            return entry
        with self.writing(key) as partial:
            if entry := self.open(key, quiet=True):  # another process was faster
                return entry
            write(partial)
            return self.publish(partial, key)

    def alias(self, key: str) -> str | None:
        """The key that `publish` has stored for the alias `key`; None if there is none."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.folder / f"{key}.alias").read_text(encoding="ascii")
        return None

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """A context with an empty folder for the files of a new entry. It holds the lock of `key`.

        The folder is removed at the end, unless `publish` has renamed it.

        Raises:
            InvalidInput: the cache cannot be written, or is full.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(self._errors())
            self.folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(self._lock_path(key)))
            self._remove_leftovers()
            partial = self.folder / f"{key}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            stack.callback(shutil.rmtree, partial, ignore_errors=True)
            partial.mkdir()
            stack.enter_context(self._full_disk(partial))
            yield partial

    def publish(self, partial: Path, key: str, asked: str | None = None) -> Entry:
        """Rename the folder `partial` to the entry `key`, unless there is a usable one by now. Returns the entry.

        Args:
            partial: The folder, from `writing`.
            key: The key of the entry.
            asked: A key to store as an alias of the entry. The key of an entry depends on the vocabulary, which is not
                known before it is trained. The alias depends on the settings of its training instead.

        Raises:
            InvalidInput: another program has removed the entry meanwhile.
        """
        with contextlib.ExitStack() as stack:
            if partial.stem != key:  # otherwise `writing` holds this lock
                stack.enter_context(locked(self._lock_path(key)))
            if asked is not None:
                alias = partial / "alias"
                alias.write_text(key, encoding="ascii")
                flush_to_disk(alias)
                alias.replace(self.folder / f"{asked}.alias")
            entry = self.open(key, quiet=True)
            if entry is None:
                shutil.rmtree(self.folder / key, ignore_errors=True)
                flush_to_disk(partial)
                partial.rename(self.folder / key)
                flush_to_disk(self.folder)
                entry = self.open(key)
            if entry is None:
                allowed = "a folder from which no other program removes files meanwhile"
                raise InvalidInput("--cache", str(self.folder), allowed)
            return entry

    def remove_others(self, family: str, key: str) -> None:
        """Remove the entries whose names begin with `family`, except `key`. A process that has one open can still use
        it."""
        for folder in self.folder.glob(f"{family}*"):
            if folder.name != key and not folder.suffix:
                shutil.rmtree(folder, ignore_errors=True)

    def _lock_path(self, key: str) -> Path:
        return self.folder / f"{key}.lock"

    def _remove_leftovers(self) -> None:
        for key in {path.stem for suffix in ("lock", "partial") for path in self.folder.glob(f"*.{suffix}")}:
            with locked(self._lock_path(key), wait=False) as no_writer:
                partial = self.folder / f"{key}.partial"
                if no_writer and partial.exists():
                    log.info("%s was left by an interrupted run, and is removed", partial)
                    shutil.rmtree(partial, ignore_errors=True)

    @contextlib.contextmanager
    def _full_disk(self, partial: Path) -> Iterator[None]:
        """Convert the OSError of a full disk to InvalidInput with the size of the files written so far."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            written = sum(path.stat().st_size for path in partial.rglob("*")) / 1e6
            allowed = f"a folder with room for more than {written:,.1f} MB of this text (the disk was full after these)"
            raise InvalidInput("--cache", str(self.folder), f"{allowed}; --cache chooses another") from error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        """Convert other OSErrors to InvalidInput."""
        try:
            yield
        except OSError as error:
            allowed = f"a folder with room that can be written ({error.strerror}); --cache chooses another"
            raise InvalidInput("--cache", str(self.folder), allowed) from error


class _OtherFormat(Exception):
    """The entry has the format of another version of this program."""


def _read(folder: Path) -> Entry:
    """Read and check an entry. Raises one of the errors that `TokenCache.open` handles."""
    described = json.loads((folder / "cache.json").read_text(encoding="utf-8"))
    if described["format"] != FORMAT:
        raise _OtherFormat(f"has format {described['format']}, while this version writes {FORMAT},")
    if described["key"] != folder.name:
        raise ValueError(f"made for {described['key']}")
    for name, size in described["files"].items():
        if (found := (folder / name).stat().st_size) != size:
            raise ValueError(f"{name} has {found:,} bytes instead of {size:,}")
    model = (folder / "tokenizer.model").read_bytes()
    if hashlib.sha256(model).hexdigest() != described["tokenizer"]:
        raise ValueError("tokenizer.model was changed")

    def array(name: str) -> np.ndarray:
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))

    source_ids, source_starts, target_ids, target_starts, lengths, weights = map(array, ARRAYS)
    train = TokenizedCorpus.from_arrays(source_ids, source_starts, target_ids, target_starts, lengths.reshape(-1, 2))
    if len(train) != len(weights) or len(train) != described["pairs"]:
        raise ValueError("its files do not belong together")
    return Entry(folder.name, train, weights, model, described["details"])


def settings_of(value: Any) -> Any:
    """The fields of a dataclass as JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(value)))
