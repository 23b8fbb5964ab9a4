"""The folder of documents, which all processes of a server use.

Each job has a folder of its own, named by its id: `job.json`, the document as it came (`input`), its translation
(`output`), and a file on which the process that translates it holds a lock. The system lets go of the lock when this
process ends, however it does, so nobody takes a job that was left for one that runs.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dragoman_service.bundle.own_folder import OwnFolder
from dragoman_service.errors import DragomanError
from dragoman_service.server.http.documents.job import Job, State

_PREFIX = "dragoman-documents-"
_ID = re.compile(r"[0-9a-f]{32}")
_REMOVED = ".removed"
"""Ends the name of a folder whose job has been removed."""
_STALE_SECONDS = 60.0
"""Age from which a folder without a job is removed. A younger one may be about to get it."""
LEFT = "the process that translated it has ended"


class Spool:
    """The jobs in a folder."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which exists."""
        self._folder = folder

    def add(self, job: Job) -> int:
        """Make the folder of a job, and lock it. Returns the descriptor of the lock. Raises OSError."""
        place = self._folder / job.id
        place.mkdir(mode=0o700)
        lock = -1
        try:
            lock = os.open(place / "lock", os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.write(job)
        except OSError:
            if lock >= 0:
                os.close(lock)
            self.remove(job.id)
            raise
        return lock

    def find(self, name: str) -> Job | None:
        """The job of this id, as it is now. None: there is none, or no more."""
        if not _ID.fullmatch(name):
            return None
        try:
            job = self._read(name)
            if not job.state.is_final and self._is_left(name):
                job = self._read(name)  # it may have ended, or been removed, since
                if not job.state.is_final:
                    job.state, job.error = State.FAILED, LEFT
        except (OSError, ValueError):
            return None
        return None if job.expires and job.expires < time.time() else job

    def _read(self, name: str) -> Job:
        return Job.of_json((self._folder / name / "job.json").read_text(encoding="utf-8"))

    def write(self, job: Job) -> None:
        """Keep a job as it is now. Raises OSError, FileNotFoundError if it has been removed."""
        place = self._folder / job.id
        new = place / "job.json.new"
        new.write_text(job.to_json(), encoding="utf-8")
        new.replace(place / "job.json")

    def input(self, job: Job) -> Path:
        """The document as it came."""
        return self._folder / job.id / "input"

    def output(self, job: Job) -> Path:
        """Its translation."""
        return self._folder / job.id / "output"

    def remove(self, name: str) -> None:
        """Remove a job, which may run in another process: that one sees it at its next step."""
        # By another name first: a file that it writes while others are removed would keep the folder, and the job.
        removed = self._folder / f"{name}{_REMOVED}"
        with suppress(OSError):
            (self._folder / name).rename(removed)
        shutil.rmtree(removed, ignore_errors=True)

    def jobs(self) -> Iterator[Job]:
        """All jobs."""
        for name in self._names():
            if (job := self.find(name)) is not None:
                yield job

    def clean(self) -> None:
        """Remove what has expired, and what a process left behind that has ended."""
        for removed in self._folder.glob(f"*{_REMOVED}"):
            shutil.rmtree(removed, ignore_errors=True)
        for name in self._names():
            if self.find(name) is None:
                with suppress(OSError):
                    if time.time() - (self._folder / name).stat().st_mtime > _STALE_SECONDS:
                        self.remove(name)

    def _names(self) -> list[str]:
        with suppress(OSError):
            return [name for name in os.listdir(self._folder) if _ID.fullmatch(name)]
        return []

    def _is_left(self, name: str) -> bool:
        """Whether no process translates a job."""
        try:
            lock = os.open(self._folder / name / "lock", os.O_RDONLY)
        except OSError:
            return True
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(lock)
        return True


class FolderUnusable(DragomanError):
    """Documents cannot be kept in a folder."""

    reason = "startup"


@contextmanager
def spool_folder(given: Path | None) -> Iterator[Path]:
    """The folder of the documents of a server, as long as it runs: `given`, or a temporary one.

    Raises FolderUnusable.
    """
    own = None
    try:
        if given is not None:
            given.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=given):  # that it cannot be written is told now
                pass
        else:
            own = OwnFolder(_PREFIX)
    except OSError as error:
        where = f"--document-folder: {given}" if given else "no temporary folder for documents; set TMPDIR to one"
        raise FolderUnusable(f"{where}: {error.strerror}") from None
    try:
        yield own.path if own else given or Path()
    finally:
        if own:
            own.remove()
