"""The process that reads a document and writes its translation. Its arguments: format, MiB of memory, seconds.

A document comes from anyone. What it does to this process, it does to nobody else: the process has no files, little
memory and little time, and ends with its document. It takes the document from its standard input, answers with the
texts, takes their translations, and answers with the translated document. Texts and translations go in parts, so that
the server has no long work with them at once.
"""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable
from typing import Any

from dragoman_service.server.http.documents.frames import LENGTH, framed, in_parts
from dragoman_service.text.markup.documents import open_document
from dragoman_service.text.markup.files import FileFormat
from dragoman_service.text.markup.units import FileError


def main(arguments: list[str]) -> None:
    """Serve one document."""
    file_format, memory_mib, seconds = FileFormat(arguments[0]), int(arguments[1]), int(arguments[2])
    _limit(memory_mib << 20, seconds)
    try:
        document = open_document(_read(), file_format)
    except FileError as error:
        _answer({"error": str(error)})
        return
    except (MemoryError, RecursionError):
        _answer({"error": "the document takes more memory than is allowed"})
        return
    _answer({"format": document.format.value})
    for part in in_parts(list(zip(document.texts, document.places, strict=True)), lambda it: len(it[0])):
        _answer(part)
    _answer([])
    translations: list[str | None] = []
    while part := json.loads(_read()):
        translations += part
    _write(framed(document.written(translations)))


def _limit(memory: int, seconds: int) -> None:
    """Give this process so many bytes of memory, so many seconds of a processor, and no way to write files."""
    for kind, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 16),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))


def _read() -> bytes:
    (length,) = LENGTH.unpack(sys.stdin.buffer.read(LENGTH.size))
    return sys.stdin.buffer.read(length)


def _answer(content: object) -> None:
    # As ASCII, because a text may have half of a surrogate pair, which JSON allows and UTF-8 does not.
    _write(framed(json.dumps(content).encode()))


def _write(data: bytes) -> None:
    write: Callable[[bytes], Any] = sys.stdout.buffer.write
    write(data)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
