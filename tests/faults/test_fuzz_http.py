"""Requests over HTTP with random contents: each is answered, none is an error of the server, and nothing stays behind.

More of them: DRAGOMAN_CASES=100000 pytest tests/faults/test_fuzz_http.py
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from support.asgi_calls import answered
from support.cases import cases
from support.fake_workers import FakeWorkers, served
from support.http_calls import FORM, JSON, ended, opened
from support.server_thread import ServerThread, serving

EXAMPLES = cases(100)
FUZZED = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
PATHS = (
    "/v1/translate", "/v1/translate/stream", "/v1/detect", "/v1/score", "/v1/glossaries", "/translate", "/detect",
    "/languages", "/language/translate/v2", "/language/translate/v2/detect", "/language/translate/v2/languages",
    "/v3/projects/p:translateText", "/v3/projects/p:detectLanguage", "/v2/translate", "/v2/languages", "/v2/usage",
)  # fmt: skip
NAMES = (
    "texts", "text", "q", "contents", "content", "source", "target", "sourceLanguage", "target_language", "source_lang",
    "target_lang", "targetLanguageCode", "format", "mimeType", "alternatives", "options", "beamSize", "numHypotheses",
    "sampling", "seed", "temperature", "terms", "keep", "priority", "model", "languages", "translations", "splitting",
    "split_sentences", "tag_handling", "labels", "api_key", "key", "glossary", "glossary_id", "type", "joinLines",
)  # fmt: skip
PIECES = (
    b"POST /translate HTTP/1.1\r\n", b"GET /languages HTTP/1.1\r\n", b"host: a\r\n", b"\r\n",
    b"content-length: 5\r\n", b"content-length: -1\r\n", b"transfer-encoding: chunked\r\n", b"5\r\nabcde\r\n",
    b"0\r\n\r\n", b"expect: 100-continue\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n",
    b"connection: close\r\n",
)  # fmt: skip
"""Of what is sent over a connection."""
TEXT = some.sampled_from(["en", "de", "auto", "One. Two.", "<p>a</p>", "html", "😀", ""]) | some.text(max_size=30)
SIMPLE = TEXT | some.none() | some.booleans() | some.integers() | some.floats()
VALUES = some.recursive(
    SIMPLE, lambda its: some.lists(its, max_size=4) | some.dictionaries(some.sampled_from(NAMES), its, max_size=4)
)
FIELDS = some.dictionaries(some.sampled_from(NAMES) | some.text(max_size=5), VALUES, max_size=6)


@pytest.fixture(scope="module")
def server() -> Iterator[ServerThread]:
    model = served(FakeWorkers())
    with serving([model], http_port=0) as running:
        yield running
        assert model.engine.permits.idle


def check(server: ServerThread, path: str, body: bytes, headers: dict[str, str]) -> None:
    reply = asyncio.run_coroutine_threadsafe(answered(server, "POST", path, body, headers), server.loop).result(60)
    assert reply.status in (200, 400, 403, 404), reply
    if reply.headers["content-type"] == "text/event-stream":
        assert reply.events
    else:
        assert reply.json is not None


@FUZZED
@given(path=some.sampled_from(PATHS), fields=FIELDS)
def test_fields_of_any_kind(server: ServerThread, path: str, fields: dict[str, Any]) -> None:
    check(server, path, json.dumps(fields).encode(), JSON)
    check(server, path, urlencode(fields, doseq=True, errors="replace").encode(), FORM)


@FUZZED
@given(path=some.sampled_from(PATHS), body=some.binary(max_size=300), kind=some.sampled_from([JSON, FORM, {}]))
def test_bytes_of_any_kind(server: ServerThread, path: str, body: bytes, kind: dict[str, str]) -> None:
    check(server, path, body, kind)


@settings(FUZZED, max_examples=min(EXAMPLES, 1_000))
@given(some.lists(some.sampled_from(PIECES) | some.binary(max_size=20), max_size=8))
def test_connections_of_any_kind(server: ServerThread, sent: list[bytes]) -> None:
    with opened(server.url) as connection:
        connection.sendall(b"".join(sent))
        connection.shutdown(1)
        assert b"HTTP/1.1 500" not in ended(connection)
