"""Writing to standard output, or to a file that appears when it is whole."""

from __future__ import annotations

import io
import os
import signal
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, TextIO

from dragoman_service.errors import DragomanError


class OutputError(DragomanError):
    """The output cannot be written."""

    reason = "output_error"


class Output:
    """Text output in UTF-8, with line feeds. A context manager.

    A regular file is written under another name in the same folder. At the end of the context it takes the place of the
    old one; if the context ends with an error, or with a signal, it is removed, and the old one stays. Standard output,
    and files that are not regular, such as pipes, are written at once. All methods raise OutputError; BrokenPipeError
    if nobody reads.

    Within the context, SIGINT and SIGTERM end the process. KeyboardInterrupt may come anywhere: between the start of a
    call and that of gRPC's thread, after which closing the connection would wait for ever.
    """

    def __init__(self, path: Path | None) -> None:
        """`path` None: standard output."""
        self._name = "standard output" if path is None else str(path)
        self._temporary: Path | None = None
        self._target: Path | None = None
        self._handlers: dict[int, Any] = {}
        """What the signals did before."""
        with self._failures():
            self._file = _stdout() if path is None else self._opened(path)

    @property
    def is_terminal(self) -> bool:
        """Whether a person reads it."""
        return self._target is None and self._file.isatty()

    def is_file(self, other: BinaryIO | None) -> bool:
        """Whether it writes to the file that `other` reads."""
        if other is None or self._temporary is not None:
            return False
        try:
            mine, others = os.fstat(self._file.fileno()), os.fstat(other.fileno())
        except (OSError, ValueError):  # not a file of the system
            return False
        return stat.S_ISREG(mine.st_mode) and os.path.samestat(mine, others)

    def write(self, text: str) -> None:
        """Write text."""
        with self._failures():
            self._file.write(text)

    def write_bytes(self, data: bytes) -> None:
        """Write bytes as they are."""
        with self._failures():
            buffer = getattr(self._file, "buffer", None)
            if buffer is None:  # what stands in for standard output
                self._file.write(data.decode())
            else:
                self._file.flush()
                buffer.write(data)

    def flush(self) -> None:
        """Let readers of standard output see what has been written."""
        if self._target is None:
            with self._failures():
                self._file.flush()

    def __enter__(self) -> Output:
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._end) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                with self._failures():
                    self._finish()
        finally:
            self._discard()
            for number, handler in self._handlers.items():
                signal.signal(number, handler)

    def _opened(self, path: Path) -> TextIO:
        if path.exists() and not path.is_file():
            return path.open("w", encoding="utf-8", newline="\n")
        target = Path(os.path.realpath(path))  # a link stays a link
        if target.exists():
            if not os.access(target, os.W_OK):
                raise PermissionError(0, "Permission denied")
            mode = stat.S_IMODE(target.stat().st_mode)
        else:
            mask = os.umask(0)
            os.umask(mask)
            mode = 0o666 & ~mask
        descriptor, name = tempfile.mkstemp(prefix=".dragoman-", suffix=".partial", dir=target.parent)
        self._temporary, self._target = Path(name), target
        os.fchmod(descriptor, mode)
        return open(descriptor, "w", encoding="utf-8", newline="\n")

    def _end(self, number: int, frame: object) -> None:
        """End the process as the signal does by itself, but without the file."""
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _finish(self) -> None:
        self._file.flush()
        if self._temporary is not None and self._target is not None:
            os.fsync(self._file.fileno())  # some file systems tell only now that they are full
            self._file.close()
            self._temporary.replace(self._target)
            self._temporary = None

    def _discard(self) -> None:
        if self._file is sys.stdout:
            return
        with suppress(OSError):
            self._file.close()
        if self._temporary is not None:
            with suppress(OSError):
                self._temporary.unlink()

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"{self._name}: {error.strerror or error}") from None


def _stdout() -> TextIO:
    if sys.stdout is None:
        raise OSError(0, "closed")
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.isatty():
            sys.stdout.reconfigure(errors="replace")
        else:
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout
