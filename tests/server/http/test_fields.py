from __future__ import annotations

import asyncio
import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as some

from dragoman_service.errors import InvalidInput
from dragoman_service.server.http.fields import Fields, fields_of

FORM, JSON, MULTIPART = "application/x-www-form-urlencoded", "application/json", "multipart/form-data; boundary=B"
PART = b"content-disposition: form-data"
HALF = b'--B\r\n%s; name="a"\r\n\r\n\\ud800\r\n--B--\r\n' % PART
TEXT = some.text(some.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = some.dictionaries(TEXT.filter(bool), TEXT | some.lists(TEXT, min_size=2, max_size=4), max_size=5)


def read(content_type: str, body: bytes, query: bytes = b"", most: int = 50) -> Fields:
    return asyncio.run(fields_of(content_type, body, query, most))


@given(VALUES)
def test_json_form_and_query_say_the_same(values: dict[str, object]) -> None:
    encoded = urlencode(values, doseq=True).encode()
    assert read(JSON, json.dumps(values).encode()) == values
    assert read(f"{JSON}; charset=utf-8", json.dumps(values, ensure_ascii=False).encode()) == values
    assert read(FORM, encoded) == values
    assert read("", encoded) == values
    assert read(FORM, b"", encoded) == values


@given(VALUES)
def test_a_form_of_parts_says_the_same(values: dict[str, object]) -> None:
    named = {f"n{number}": value for number, value in enumerate(values.values())}
    parts = [(name, one) for name, value in named.items() for one in (value if isinstance(value, list) else [value])]
    form = [f'--B\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{one}\r\n' for name, one in parts]
    assert read(MULTIPART, ("".join(form) + "--B--\r\n").encode()) == named


def test_the_body_comes_before_the_query_and_null_is_nothing() -> None:
    assert read(JSON, b'{"a": 1, "b": null, "c": ""}', b"a=2&b=3&d=4") == {"a": 1, "b": "3", "c": "", "d": "4"}


@pytest.mark.parametrize(
    ("content_type", "body", "query", "field"),
    [
        (JSON, b"[1]", b"", "request"),
        (JSON, b"{", b"", "request"),
        (JSON, b'{"a": "\xff"}', b"", "request"),
        (JSON, b'{"a": ["\\udc00"]}', b"", "request"),
        (JSON, b'{"\\udc00": 1}', b"", "request"),
        (JSON, b'{"a":' * 50_000, b"", "request"),
        (FORM, b"a=%ff", b"", "request"),
        (FORM, b"a=\xff", b"", "request"),
        (FORM, b"a&" * 51, b"", "request"),
        (FORM, b"", b"a=%ff", "query"),
        (MULTIPART, b"nonsense", b"", "request"),
        ("multipart/form-data", b"nonsense", b"", "request"),
        (MULTIPART, b'--B\r\n%s; name="a"\r\n\r\n\xff\r\n--B--\r\n' % PART, b"", "request"),
        (MULTIPART, b'--B\r\n%s; name="a"; filename="f"\r\n\r\nx\r\n--B--\r\n' % PART, b"", "request"),
        ("text/xml", b"<a/>", b"", "content-type"),
        *[(JSON, b'{"a": [%s]}' % number, b"", "request") for number in (b"NaN", b"-Infinity", b"1e999")],
        *[
            (f"{MULTIPART}; charset={charset}", HALF, b"", "content-type")
            for charset in ("unicode_escape", "undefined", "punycode", "none")
        ],
    ],
)  # fmt: skip
def test_what_is_not_as_it_says_is_refused(content_type: str, body: bytes, query: bytes, field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(content_type, body, query)
    assert caught.value.field == field


@given(some.sampled_from([FORM, JSON, MULTIPART, ""]), some.binary(max_size=200), some.binary(max_size=50))
def test_no_bytes_do_anything_else_than_be_read_or_refused(content_type: str, body: bytes, query: bytes) -> None:
    try:
        found = read(content_type, body, query)
    except InvalidInput:
        return
    json.dumps(found, ensure_ascii=False).encode()
