"""`dragoman translate --format`: a file of a known format as a whole."""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman_service.cli.connection import CommandFailed
from dragoman_service.cli.output import Output
from dragoman_service.errors import DragomanError, visible
from dragoman_service.text.markup.documents import open_document
from dragoman_service.text.markup.files import FileFormat
from dragoman_service.text.markup.units import FileError

if TYPE_CHECKING:
    from dragoman_service.client.client import TranslationClient
    from dragoman_service.client.values import Options

_MOST_PROBLEMS = 100
_LONGEST_PROBLEM = 1_000


def read_file(path: Path | None) -> bytes:
    """A file, or standard input. Raises DragomanError."""
    name = "standard input" if path is None else str(path)
    try:
        if path is None and sys.stdin is None:
            raise DragomanError(f"{name}: closed")
        return sys.stdin.buffer.read() if path is None else path.read_bytes()
    except OSError as error:
        raise DragomanError(f"{name}: {error.strerror}") from None


class FileJob:
    """Translates the texts of a file, and reports those that fail, which stay as they are."""

    def __init__(self, path: Path | None, file_format: FileFormat) -> None:
        """Read the file. Raises DragomanError if it cannot be read or is not of this format."""
        self._name = "<stdin>" if path is None else str(path)
        self._is_text = file_format.is_text
        data = read_file(path)
        try:
            self._document = open_document(data, file_format)
        except FileError as error:
            raise DragomanError(f"{self._name}: {error}") from None

    def run(
        self, client: TranslationClient, options: Options, output: Output, deadline: float | None, *, fail_fast: bool
    ) -> int:
        """Returns the exit status."""
        if output.is_terminal and not self._is_text:
            raise DragomanError(f"{self._name}: not written to a terminal; name a file with --output")
        translations: list[str | None] = []
        problems: list[tuple[str, str]] = []
        cut: list[tuple[str, str]] = []
        document = self._document
        steps = client.translate_each(document.texts, options, deadline=deadline)
        with closing(steps), closing(self._bar(len(document.texts), output)) as bar:
            next(bar)
            for place, outcome in zip(document.places, steps, strict=True):
                if isinstance(outcome, Exception):
                    rest = str(outcome).removeprefix(f"{outcome.field}: ")
                    problems.append((place, visible(rest, _LONGEST_PROBLEM)))
                    translations.append(None)
                    if fail_fast:
                        print(f"dragoman: {next(self._told(problems))}", file=sys.stderr)
                        raise CommandFailed(1)
                else:
                    translations.append(outcome.text)
                    if outcome.is_cut:
                        reason = outcome.finish_reason.value
                        cut.append((place, f"its translation is incomplete (finish reason {reason})"))
                next(bar)
        output.write_bytes(document.written(translations))
        for message in (*self._told(cut), *self._told(problems)):
            print(f"dragoman: {message}", file=sys.stderr)
        if problems:
            print(f"dragoman: {len(problems)} texts could not be translated: they are as they were", file=sys.stderr)
        return 1 if problems else 0

    def _bar(self, total: int, output: Output) -> Generator[None, None, None]:
        """Shows the progress to a person: one step further each time."""
        if output.is_terminal or not sys.stderr.isatty():
            while True:
                yield
        from tqdm import tqdm  # noqa: PLC0415

        with tqdm(total=total, unit=" texts", desc=Path(self._name).name) as bar:
            yield
            while True:
                bar.update()
                yield

    def _told(self, problems: list[tuple[str, str]]) -> Iterator[str]:
        for place, problem in problems[:_MOST_PROBLEMS]:
            yield f"{self._name}:{place}: {problem}"
        if len(problems) > _MOST_PROBLEMS:
            yield f"and {len(problems) - _MOST_PROBLEMS} more texts"
