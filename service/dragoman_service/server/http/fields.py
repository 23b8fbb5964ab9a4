"""The fields of a request, which clients send as JSON, as a form, or in the query of the address."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.formparsers import MultiPartException, MultiPartParser

from dragoman_service.errors import InvalidInput

Fields: TypeAlias = dict[str, Any]
"""Name -> value as JSON has it. Of a form, a string; a list of strings if the name stands there several times. A value
that is null is left out."""

_FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
"""Content type of a form that may have files."""
_CHARSETS = (b"utf-8", b"utf8", b"us-ascii")


async def fields_of(content_type: str, body: bytes, query: bytes, max_values: int) -> Fields:
    """The fields of query and body; the body's come first.

    Args:
        content_type: Header of the request. Without one, the body is a form.
        body: All of it.
        query: What follows the path after a question mark.
        max_values: Most values of a form.

    Raises:
        InvalidInput: one of them is not as it says, is not UTF-8, or has too many values.
    """
    fields = _form(query, max_values, "query")
    if not body:
        return fields
    kind = content_type.partition(";")[0].strip().lower()
    if is_json(content_type):
        return fields | json_object(body)
    if kind == MULTIPART:
        return fields | await _multipart(content_type, body, max_values)
    if kind in ("", _FORM):
        return fields | _form(body, max_values, "request")
    raise InvalidInput("content-type", kind, f"application/json, {_FORM}, {MULTIPART}")


def is_json(content_type: str) -> bool:
    """Whether a content type is one of JSON."""
    kind = content_type.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def json_object(body: bytes) -> Fields:
    """The fields of an object of JSON. Raises InvalidInput."""
    allowed = "an object of JSON"
    try:
        # As a string, because `json` would guess the encoding of bytes.
        found = json.loads(body.decode(), parse_constant=_finite, parse_float=_finite)
    except UnicodeDecodeError:
        raise InvalidInput("request", body[:100], "UTF-8") from None
    except ValueError as error:
        raise InvalidInput("request", str(error), allowed) from None
    except RecursionError:
        raise InvalidInput("request", "a value deep inside of others", allowed) from None
    if not isinstance(found, dict):
        raise InvalidInput("request", body[:100], allowed)
    if b"\\u" in body and not _is_text(found):
        raise InvalidInput("request", "half of a pair of surrogates", "characters of Unicode")
    return {name: value for name, value in found.items() if value is not None}


def _finite(number: str) -> float:
    """A number of JSON. Raises ValueError for NaN and infinity, which Python reads and JSON does not have."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number[:20]} is no finite number")
    return value


def _is_text(value: object) -> bool:
    """Whether the strings in a value of JSON can be written in UTF-8: an escape may give half of a character."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _form(data: bytes, max_values: int, what: str) -> Fields:
    try:
        pairs = parse_qsl(data.decode(), keep_blank_values=True, errors="strict", max_num_fields=max_values)
    except UnicodeDecodeError:
        raise InvalidInput(what, data[:100], "UTF-8") from None
    except ValueError:
        raise InvalidInput(what, f"more than {max_values} values", f"at most {max_values}") from None
    return joined(pairs)


def multipart_headers(content_type: str) -> Headers:
    """The headers by which a form of several parts is read. Raises InvalidInput.

    The parser would decode by any codec of Python that they name, and some of them fail, or give halves of characters.
    """
    _, options = parse_options_header(content_type)
    if options.get(b"charset", b"utf-8").lower() not in _CHARSETS:
        raise InvalidInput("content-type", content_type, f"{MULTIPART} in UTF-8")
    return Headers({"content-type": content_type})


async def _multipart(content_type: str, body: bytes, max_values: int) -> Fields:
    async def parts() -> AsyncGenerator[bytes, None]:
        yield body

    try:
        body.decode()  # the parser would take other bytes for Latin-1
    except UnicodeDecodeError:
        raise InvalidInput("request", body[:100], "UTF-8") from None

    headers = multipart_headers(content_type)
    parser = MultiPartParser(headers, parts(), max_files=0, max_fields=max_values, max_part_size=len(body))
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise InvalidInput("request", str(error), f"{MULTIPART} of texts in UTF-8") from None
    return joined([(name, value) for name, value in form.multi_items() if isinstance(value, str)])


def joined(pairs: list[tuple[str, str]]) -> Fields:
    """The fields of a form. Those of the same name are a list."""
    fields: Fields = {}
    for name, value in pairs:
        if name not in fields:
            fields[name] = value
        elif isinstance(fields[name], list):
            fields[name].append(value)
        else:
            fields[name] = [fields[name], value]
    return fields
