"""The process of a document, as the server sees it: `worker` is the other side."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dragoman_service.errors import DragomanError
from dragoman_service.server.http.documents.frames import LENGTH, framed, in_parts
from dragoman_service.text.markup.files import FileFormat
from dragoman_service.text.markup.formats import TextFormat

_WORKER = "dragoman_service.server.http.documents.worker"
MEMORY_MIB = 1_024
"""Address space of the process, Python and its libraries included."""
SECONDS = 60
"""Time of a processor for reading and writing a document, and the time that each of both may take."""
_MOST_RECEIVED = 8
"""All answers may have so many times the bytes of the largest document: JSON writes some characters with six bytes."""


class DocumentFailed(DragomanError):
    """A document that cannot be translated."""

    reason = "document"


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a document."""

    texts: Sequence[str]
    format: TextFormat
    places: Sequence[str]
    """Where each stands, for messages."""


class DocumentProcess:
    """A context manager: the process is killed at the end."""

    def __init__(self, file_format: FileFormat, max_bytes: int) -> None:
        """`max_bytes` is the largest document."""
        self._format = file_format
        self._max_bytes = max_bytes
        self._received = 0

    async def __aenter__(self) -> DocumentProcess:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", _WORKER, self._format.value, str(MEMORY_MIB), str(SECONDS),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={},
        )  # fmt: skip
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._process.communicate()

    async def read(self, document: bytes) -> Texts:
        """Find the texts of the document. Raises DocumentFailed."""
        with _limits():
            async with asyncio.timeout(SECONDS):
                await self._send(document)
                head = json.loads(await self._receive())
                if "error" in head:
                    raise DocumentFailed(head["error"])
                texts: list[str] = []
                places: list[str] = []
                while part := json.loads(await self._receive()):
                    texts += (text for text, _ in part)
                    places += (place for _, place in part)
        return Texts(texts, TextFormat(head["format"]), places)

    async def write(self, translations: Sequence[str | None]) -> bytes:
        """The document with a translation for each text. None: it stays as it is. Raises DocumentFailed."""
        with _limits():
            async with asyncio.timeout(SECONDS):
                for part in in_parts(translations, lambda it: len(it or "")):
                    await self._send(json.dumps(part).encode())
                await self._send(b"[]")
                written = await self._receive()
        if len(written) > self._max_bytes:
            raise DocumentFailed(f"the translated document has {len(written)} bytes; allowed: {self._max_bytes}")
        return written

    async def _send(self, message: bytes) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        stdin.write(framed(message))
        await stdin.drain()

    async def _receive(self) -> bytes:
        stdout = self._process.stdout
        assert stdout is not None
        (length,) = LENGTH.unpack(await stdout.readexactly(LENGTH.size))
        self._received += length
        if self._received > self._max_bytes * _MOST_RECEIVED:
            raise DocumentFailed("the document has more text than is allowed")
        return await stdout.readexactly(length)


@contextmanager
def _limits() -> Iterator[None]:
    """What it means that the process does not answer. Raises DocumentFailed."""
    try:
        yield
    except TimeoutError:
        raise DocumentFailed(f"the document takes longer than {SECONDS} s to read or write") from None
    except (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError):
        raise DocumentFailed("the document takes more memory or time than is allowed, or is broken") from None
