"""`dragoman translate --format`: a file of a known format as a whole."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman_service.cli.connection import CommandFailed
from dragoman_service.cli.output import Output
from dragoman_service.errors import DragomanError, visible
from dragoman_service.text.markup.files import FileFormat, units_of, written
from dragoman_service.text.markup.units import FileError, Unit

if TYPE_CHECKING:
    from dragoman_service.client.client import TranslationClient
    from dragoman_service.client.values import Options

_MOST_PROBLEMS = 100
_LONGEST_PROBLEM = 1_000


def read_file(path: Path | None) -> str:
    """The text of a file, or of standard input. Raises DragomanError."""
    name = "standard input" if path is None else str(path)
    try:
        if path is None and sys.stdin is None:
            raise DragomanError(f"{name}: closed")
        data = sys.stdin.buffer.read() if path is None else path.read_bytes()
        return data.decode()
    except OSError as error:
        raise DragomanError(f"{name}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DragomanError(f"{name}:{line}: got the byte 0x{data[error.start]:02x}; allowed: UTF-8") from None


class FileJob:
    """Translates the units of a file, and reports those that fail, which stay as they are."""

    def __init__(self, path: Path | None, file_format: FileFormat) -> None:
        """Read the file. Raises DragomanError if it cannot be read or is not of this format."""
        self._name = "<stdin>" if path is None else str(path)
        self._source = read_file(path)
        try:
            self._units = units_of(self._source, file_format)
        except FileError as error:
            raise DragomanError(f"{self._name}: {error}") from None

    def run(
        self, client: TranslationClient, options: Options, output: Output, deadline: float | None, *, fail_fast: bool
    ) -> int:
        """Returns the exit status."""
        translations: list[str | None] = []
        problems: list[tuple[Unit, str]] = []
        cut: list[tuple[Unit, str]] = []
        texts = [unit.text for unit in self._units]
        with closing(client.translate_each(texts, options, deadline=deadline)) as found:
            for unit, outcome in zip(self._units, found, strict=True):
                if isinstance(outcome, Exception):
                    rest = str(outcome).removeprefix(f"{outcome.field}: ")
                    problems.append((unit, visible(rest, _LONGEST_PROBLEM)))
                    translations.append(None)
                    if fail_fast:
                        print(f"dragoman: {next(self._told(problems))}", file=sys.stderr)
                        raise CommandFailed(1)
                else:
                    translations.append(outcome.text)
                    if outcome.is_cut:
                        cut.append(
                            (unit, f"its translation is incomplete (finish reason {outcome.finish_reason.value})")
                        )
        output.write(written(self._source, self._units, translations))
        for message in self._told(cut):
            print(f"dragoman: {message}", file=sys.stderr)
        for message in self._told(problems):
            print(f"dragoman: {message}", file=sys.stderr)
        if problems:
            print(f"dragoman: {len(problems)} texts could not be translated: they are as they were", file=sys.stderr)
        return 1 if problems else 0

    def _told(self, problems: list[tuple[Unit, str]]) -> Iterator[str]:
        for unit, problem in problems[:_MOST_PROBLEMS]:
            yield f"{self._name}:{self._source.count(chr(10), 0, unit.start) + 1}: {problem}"
        if len(problems) > _MOST_PROBLEMS:
            yield f"and {len(problems) - _MOST_PROBLEMS} more texts"
