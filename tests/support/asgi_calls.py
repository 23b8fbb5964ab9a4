"""Requests to the HTTP application of a server in this process, without a connection: thousands within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from support.http_calls import Reply
from support.server_thread import ServerThread


async def answered(
    server: ServerThread, verb: str, path: str, body: bytes, headers: Mapping[str, str], query: bytes = b""
) -> Reply:
    """Call the application. To be awaited on the event loop of the server."""
    sent: list[Any] = []
    scope = {
        "type": "http", "http_version": "1.1", "method": verb, "path": path, "query_string": query, "root_path": "",
        "scheme": "http", "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    parts = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Any:
        return next(parts, None) or await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    assert server.server._http is not None
    await asyncio.create_task(server.server._http.app(scope, receive, send))
    head, *rest = sent
    found = {name.decode(): value.decode() for name, value in head["headers"]}
    return Reply(head["status"], found, b"".join(part["body"] for part in rest))
