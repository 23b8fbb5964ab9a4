"""Answers that need no work, and so little time."""

from __future__ import annotations

import asyncio

from dragoman_service.server.http.asgi import App, Receive, Scope, Send
from dragoman_service.server.http.connections import CONNECTION


class Bounded:
    """Ends the connection of a caller who does not take an answer in time."""

    def __init__(self, app: App, seconds: float) -> None:
        """Answer with `app`, within `seconds`."""
        self._app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._app(scope, receive, send)
        except TimeoutError:
            scope["state"][CONNECTION].abort()
            while (await receive())["type"] != "http.disconnect":  # until uvicorn knows
                pass
