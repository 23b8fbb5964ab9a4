"""A document that arrives in a form, with the fields beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser

from dragoman_service.errors import InvalidInput, TooLarge, TooSlow
from dragoman_service.server.http.context import HttpContext
from dragoman_service.server.http.documents.job import safe_name
from dragoman_service.server.http.fields import MULTIPART, Fields, joined, multipart_headers
from dragoman_service.text.markup.documents import SUFFIXES, format_of_name

_MOST_FIELDS = 100
_FIELD_BYTES = 65_536
"""Largest field, and what a form may have beside the document."""
_PART_SECONDS = 30.0
"""Time in which the next part of a document must arrive."""
_SECONDS = 30.0
_BYTES_PER_SECOND = 65_536
"""A document must arrive within `_SECONDS`, and a second for so many bytes."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A document, and the other fields of its form."""

    name: str
    document: BinaryIO
    """At its beginning. A file without a name once it is large, which is gone when it is closed."""
    fields: Fields


async def uploaded(context: HttpContext, max_bytes: int, field: str = "file") -> Upload:
    """Take a document.

    Args:
        context: Of a request whose body has not been read.
        max_bytes: Largest document.
        field: Name of the field that has it.

    Raises:
        InvalidInput: there is no such document, or none of a known format.
        TooLarge: it is larger.
        TooSlow: it does not arrive in time.
    """
    content_type = context.header("content-type")
    if content_type.partition(";")[0].strip().lower() != MULTIPART:
        raise InvalidInput("content-type", content_type, f"{MULTIPART}, with the document as {field}")
    headers = multipart_headers(content_type)
    parts = _timely(context.parts(max_bytes + _FIELD_BYTES))
    parser = MultiPartParser(headers, parts, max_files=1, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES)
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidInput("request", str(error), f"{MULTIPART} with one document") from None
    files = [(name, value) for name, value in form.multi_items() if isinstance(value, UploadFile)]
    if [name for name, _ in files] != [field]:
        allowed = f"a document in {field}, with the name of its file"
        raise InvalidInput(field, files[0][0] if files else "nothing", allowed)
    ((_, file),) = files
    name = safe_name(file.filename or "")
    if format_of_name(name) is None:
        raise InvalidInput(field, name, f"a name that ends with {', '.join(SUFFIXES)}")
    if file.size is not None and file.size > max_bytes:
        raise TooLarge(field, f"{file.size} bytes", f"at most {max_bytes} bytes")
    fields = joined([(name, value) for name, value in form.multi_items() if isinstance(value, str)])
    return Upload(name, file.file, fields)


async def _timely(parts: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The parts of a body that arrives fast enough. Raises TooSlow."""
    started, taken = time.monotonic(), 0
    try:
        while True:
            left = started + _SECONDS + taken / _BYTES_PER_SECOND - time.monotonic()
            async with asyncio.timeout(min(_PART_SECONDS, left)):
                part = await anext(parts)
            taken += len(part)
            yield part
    except StopAsyncIteration:
        return
    except TimeoutError:
        allowed = f"{_BYTES_PER_SECOND} bytes a second, after {_SECONDS:g} s"
        raise TooSlow("request", f"{taken} bytes", allowed) from None
