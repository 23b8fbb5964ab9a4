"""Tokenised text that is kept on disk from one start to the next, and read from there instead of into memory."""

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
    """Where the cache is unless told otherwise: $DRAGOMAN_CACHE, or `dragoman/text` where the system keeps caches."""
    if chosen := os.environ.get("DRAGOMAN_CACHE"):
        return Path(chosen)
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The specification of XDG_CACHE_HOME has relative paths ignored.
    return (Path(home) if os.path.isabs(home) else Path.home() / ".cache") / "dragoman" / "text"


def key_of(*parts: Any) -> str:
    """A name for JSON-ready values: 32 hexadecimal digits."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache has of one text."""

    key: str
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

    def open(self, key: str, quiet: bool = False) -> Entry | None:
        """The entry, its arrays memory-mapped; None if there is none that can be used, and unless `quiet` the log says
        why."""
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
            log.warning("%s %s and is made anew", folder, why)
        return None

    def get(self, key: str, write: Callable[[Path], None]) -> Entry:
        """The entry, which `write` makes in the folder that it is given if there is none.

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
        """The key that `publish` has noted for this one."""
        with contextlib.suppress(OSError, UnicodeDecodeError):
            return (self.folder / f"{key}.alias").read_text(encoding="ascii")
        return None

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[Path]:
        """An empty folder for files of a new entry, removed in the end; others who want to write this key wait.

        Raises:
            InvalidInput: the folder cannot be written, or is full; whatever was begun is removed.
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
        """Make what `partial` has the entry `key`, unless there is a good one by now; returns the entry.

        Args:
            partial: From `writing`.
            key: Of the entry.
            asked: A key to note as an alias: what asks for this will find the entry `key`. A vocabulary that is to be
                learned is known only once it has been.

        Raises:
            InvalidInput: somebody has removed the entry at once.
        """
        with contextlib.ExitStack() as stack:
            if partial.stem != key:  # else that lock is held already
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
                allowed = "a folder that nobody removes files from meanwhile"
                raise InvalidInput("--cache", str(self.folder), allowed)
            return entry

    def remove_others(self, family: str, key: str) -> None:
        """Remove the entries whose names begin with `family`, but for `key`; who has one open keeps it."""
        for folder in self.folder.glob(f"{family}*"):
            if folder.name != key and not folder.suffix:
                shutil.rmtree(folder, ignore_errors=True)

    def _lock_path(self, key: str) -> Path:
        return self.folder / f"{key}.lock"

    def _remove_leftovers(self) -> None:
        for key in {path.stem for suffix in ("lock", "partial") for path in self.folder.glob(f"*.{suffix}")}:
            with locked(self._lock_path(key), wait=False) as its_writer_is_gone:
                partial = self.folder / f"{key}.partial"
                if its_writer_is_gone and partial.exists():
                    log.info("%s was left by a run that ended early, and is removed", partial)
                    shutil.rmtree(partial, ignore_errors=True)

    @contextlib.contextmanager
    def _full_disk(self, partial: Path) -> Iterator[None]:
        """Tells how much was written when there was no more room."""
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            written = sum(path.stat().st_size for path in partial.rglob("*")) / 1e6
            allowed = f"a folder with room for more than {written:,.1f} MB of this text, which were written when it was"
            raise InvalidInput("--cache", str(self.folder), f"{allowed} full; --cache chooses another") from error

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            allowed = f"a folder with room that can be written ({error.strerror}); --cache chooses another"
            raise InvalidInput("--cache", str(self.folder), allowed) from error


class _OtherFormat(Exception):
    """The entry is of a version of this program that writes other files."""


def _read(folder: Path) -> Entry:
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
    """A dataclass as JSON-ready values."""
    return json.loads(json.dumps(dataclasses.asdict(value)))
