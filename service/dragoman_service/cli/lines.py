"""Reading text line by line."""

from __future__ import annotations

import codecs
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dragoman_service.errors import DragomanError

BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
"""Characters at which some programs end a line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the input, or a text of the arguments."""

    number: int
    """From 1."""
    text: str
    problem: str = ""
    """Why it is not translated; empty: it is."""


@dataclass(frozen=True, slots=True)
class Source:
    """Lines to translate."""

    lines: Iterable[Line]
    name: str
    """Of the file; empty: the lines are arguments."""
    total: int | None = None
    """Number of the lines, if known."""
    file: BinaryIO | None = None

    def place(self, line: Line) -> str:
        """The place of a line, for messages."""
        return f"{self.name}:{line.number}" if self.name else f"TEXT {line.number}"


def arguments(texts: Iterable[str]) -> Source:
    """Arguments of the command. Python has surrogates in place of bytes that are not UTF-8."""
    return Source([Line(number, text) for number, text in enumerate(texts, 1)], "")


def file_lines(path: Path | None, stack: ExitStack) -> Source:
    """The lines of a file, which `stack` closes, or of standard input. Raises DragomanError."""
    if path is None:
        if sys.stdin is None:
            raise DragomanError("standard input: closed")
        file, encoding = sys.stdin.buffer, sys.stdin.encoding if sys.stdin.isatty() else "utf-8"
        return Source(read_lines(file, encoding), "<stdin>", None, file)
    try:
        opened = stack.enter_context(path.open("rb"))
        is_regular = stat.S_ISREG(path.stat().st_mode)
        total = sum(1 for _ in opened) if is_regular else None  # others can be read only once
        if is_regular:
            opened.seek(0)
    except OSError as error:
        raise DragomanError(f"{path}: {error.strerror}") from None
    return Source(read_lines(opened), str(path), total, opened)


def read_lines(file: Iterable[bytes], encoding: str = "utf-8") -> Iterator[Line]:
    """Decode lines. Only a line feed ends a line: a carriage return before it is part of the line.

    A byte order mark before the first line is left out.
    """
    for number, ended in enumerate(file, 1):
        data = ended.removesuffix(b"\n")
        if number == 1:
            data = data.removeprefix(codecs.BOM_UTF8)
        try:
            yield Line(number, data.decode(encoding))
        except UnicodeDecodeError as error:
            got = f"the byte 0x{data[error.start]:02x} as byte {error.start + 1} of the line"
            yield Line(number, "", f"got {got}; allowed: {encoding.upper()}")


def one_line(text: str, source: str) -> str:
    """`text` with spaces for the line breaks that `source` does not have: a model may make any character."""
    return "".join(" " if character in BREAKS and character not in source else character for character in text)
