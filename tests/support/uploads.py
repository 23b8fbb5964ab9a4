"""Forms with a document, as browsers and clients send them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from support.http_calls import Reply, ask
from support.waiting import PATIENCE

TYPE = {"content-type": "multipart/form-data; boundary=B"}


def form(fields: Mapping[str, str], name: str = "", document: bytes = b"", field: str = "file") -> bytes:
    """The body of a form. Without a name, it has no document."""
    parts = [
        f'--B\r\ncontent-disposition: form-data; name="{it}"\r\n\r\n{value}\r\n'.encode()
        for it, value in fields.items()
    ]
    if name:
        parts.append(f'--B\r\ncontent-disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode())
        parts.append(document + b"\r\n")
    return b"".join([*parts, b"--B--\r\n"])


def send(url: str, name: str, document: bytes, headers: Mapping[str, str] | None = None, **fields: str) -> Reply:
    """Send a document to an address."""
    return ask(url, form(fields, name, document), {**TYPE, **(headers or {})})


def begun(url: str, name: str, document: bytes, headers: Mapping[str, str] | None = None, **fields: str) -> str:
    """Send a document to `/v1/documents` of a server. Returns the id of its job."""
    reply = send(f"{url}/v1/documents", name, document, headers, **fields)
    assert reply.status == 202, reply.body
    return str(reply.json["id"])


def ended(url: str, name: str, headers: Mapping[str, str] | None = None) -> Any:
    """The job of this id when it has ended."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        job = ask(f"{url}/v1/documents/{name}?wait=5", headers=headers).json
        if job["state"] in ("DONE", "FAILED"):
            return job
    raise AssertionError(job)
