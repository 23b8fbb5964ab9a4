"""A private copy of a bundle's files, from which a version is loaded, and the look at the originals afterwards.

ONNX Runtime maps the weights into memory and reads them for as long as it serves. If it mapped the bundle itself, a
file truncated in place would end the process with SIGBUS, and one overwritten in place would change answers. So a
version is opened from a copy in the temporary folder (TMPDIR), which is removed once its graphs are open: the system
keeps the mapped files, without names, until the version is closed.

Weights in plain memory (`add_external_initializers_from_files_in_memory`) would need no folder. But ONNX Runtime copies
such weights into each session: the embedding matrix, which both graphs use, would be in memory twice, and while a
version is loaded, the whole file once more. A memfd has no path that ONNX Runtime accepts. Both graphs use the pages of
the copy. These leave memory once ONNX Runtime has packed them, and may be reclaimed under pressure, like those of the
bundle. What is lost: processes that serve the same bundle share no pages of it any more.
"""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path

from dragoman_service.bundle.own_folder import OwnFolder
from dragoman_service.errors import BundleError

_PREFIX = "dragoman-bundle-"


@dataclass(frozen=True, slots=True)
class _Mark:
    """What a file system says of a file. A file whose mark is the same has the same contents."""

    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds."""
    status_changed: int
    """Nanoseconds. Unlike the time of modification, no program can set it."""

    @classmethod
    def of(cls, path: Path) -> _Mark:
        """The mark of a file. Raises OSError."""
        found = path.stat()
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@dataclass(slots=True)
class _Original:
    """A file of the bundle as it was copied, and as it was last seen."""

    digest: str
    """SHA-256 of the copy, in hexadecimal."""
    seen: _Mark | None
    """Mark when it was last read; None if it could not be."""
    problem: str = ""
    """How it differs from the copy; empty if it does not."""


class PrivateCopy:
    """A folder with copies of a bundle's files. One thread at a time may use it.

    As a context manager it removes the folder at the end. `changes` works afterwards, too.
    """

    def __init__(self, path: Path) -> None:
        """Make an empty folder for the bundle in `path`. Raises BundleError if there is no place for it."""
        self.path = path
        self._originals: dict[str, _Original] = {}
        try:
            self._own = OwnFolder(_PREFIX)
        except OSError as error:
            raise BundleError(path, [f"no folder for a private copy; set TMPDIR to one: {error}"]) from error

    def __enter__(self) -> PrivateCopy:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    def add(self, name: str) -> str:
        """Copy a file. Returns the SHA-256 of the copy, in hexadecimal. Raises OSError with a text for operators."""
        original, copy = self.path / name, self.folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        mark = _Mark.of(original)  # before it is read, so that a change from then on is seen
        try:
            shutil.copyfile(original, copy)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            hint = f"no private copy in {self.folder.parent}; set TMPDIR to another folder: " if full else ""
            raise OSError(f"{hint}{error.strerror or error}") from error
        digest = sha256_of(copy)
        self._originals[name] = _Original(digest, mark)
        return digest

    def remove(self) -> None:
        """Remove the folder. What has been mapped from it stays readable. A second call does nothing."""
        self._own.remove()

    @property
    def folder(self) -> Path:
        """The folder with the copies."""
        return self._own.path

    def changes(self) -> dict[str, str]:
        """Compare the originals with the copies. Returns the name of each file that differs -> how it differs.

        A file is read only if its size, inode or times are others than at the last look, so this is cheap. A file that
        was touched, or replaced by its like, is no change.
        """
        for name, original in self._originals.items():
            path = self.path / name
            try:
                mark = _Mark.of(path)
            except OSError as error:
                missing = isinstance(error, FileNotFoundError)
                original.seen, original.problem = None, "is missing" if missing else f"cannot be read ({error})"
                continue
            if mark != original.seen:
                original.seen, original.problem = mark, _difference(path, original.digest)
        return {name: original.problem for name, original in self._originals.items() if original.problem}


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _difference(path: Path, digest: str) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe may hang
            return "is not a regular file"
        return "" if sha256_of(path) == digest else "has other contents"
    except OSError as error:
        return f"cannot be read ({error})"
