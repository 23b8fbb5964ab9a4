"""Requests over HTTP, one connection each."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from support.waiting import PATIENCE

JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


@dataclass(frozen=True)
class Reply:
    """What came."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    @property
    def events(self) -> list[tuple[str, Any]]:
        """Name and JSON of each server-sent event."""
        found = []
        for block in self.body.decode().removesuffix("\n\n").split("\n\n"):
            name, _, data = block.rpartition("data: ")
            found.append((name.removeprefix("event: ").strip(), json.loads(data)))
        return found


def ask(
    url: str,
    content: object = None,
    headers: Mapping[str, str] | None = None,
    *,
    verb: str = "",
    tls: ssl.SSLContext | None = None,
) -> Reply:
    """Send a request and wait for its answer: POST with content, bytes as they are and others as JSON; else GET."""
    parts = urlsplit(url)
    body = content if isinstance(content, bytes) or content is None else json.dumps(content).encode()
    sent = dict(headers or {}) if isinstance(content, bytes) or content is None else {**JSON, **(headers or {})}
    assert parts.hostname is not None
    if parts.scheme == "https":
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.hostname, parts.port, timeout=PATIENCE, context=tls
        )
    else:
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=PATIENCE)
    try:
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        connection.request(verb or ("GET" if body is None else "POST"), path or "/", body, sent)
        answer = connection.getresponse()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def opened(url: str) -> socket.socket:
    """A connection to a server, for requests that are no good."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    return socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE)


def head(path: str, *headers: str, verb: str = "POST") -> bytes:
    """The head of a request, without the blank line after it."""
    return "\r\n".join([f"{verb} {path} HTTP/1.1", "host: test", *headers, ""]).encode()


def posted(path: str, content: object, *headers: str) -> bytes:
    """A whole request."""
    body = json.dumps(content).encode()
    return head(path, f"content-length: {len(body)}", *headers) + b"\r\n" + body


def ended(connection: socket.socket) -> bytes:
    """What comes until the server closes the connection."""
    received = b""
    try:
        while part := connection.recv(65_536):
            received += part
    except ConnectionResetError:
        pass
    return received
