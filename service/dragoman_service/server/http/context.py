"""A call over HTTP, in the shape of a call of gRPC: what `Answering`, `Intake`, `Gate` and the servicer use of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from typing import Never, cast
from urllib.parse import quote

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message as ProtoMessage
from google.rpc import status_pb2

from dragoman_protos.metadata import DETAILS_KEY, REQUEST_ID_KEY
from dragoman_service.errors import InvalidInput, TooLarge
from dragoman_service.server.access.gate import AUTHORIZATION_KEY, GOOGLE_KEY
from dragoman_service.server.http.asgi import Message, Receive, Scope, Send
from dragoman_service.server.http.connections import CONNECTION

TIMEOUT_HEADER = "x-server-timeout"
"""Header of a request: the seconds in which its caller wants the answer. Google's clients send it."""
JSON = "application/json"
EVENTS = "text/event-stream"

_AUTHORIZATION = re.compile(r"(?:bearer|deepl-auth-key) +(\S+)", re.IGNORECASE)
_KEY_HEADERS = ("x-api-key", GOOGLE_KEY)
_TOKEN_HEADERS = (*_KEY_HEADERS, AUTHORIZATION_KEY)
_LINGER_SECONDS = 5.0
"""How long the rest of a body is read that nobody wants, after the answer."""
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_NO_CONTENT = 204
"""A status without a body, nor headers of one."""
_DECIMAL = re.compile(r"\d{1,9}(?:\.\d{0,9})?", re.ASCII)

Headers = Sequence[tuple[str, str]]


class Aborted(grpc.aio.AbortError):
    """A call has failed. `status` says how."""

    def __init__(self, status: status_pb2.Status) -> None:
        super().__init__()
        self.status = status


class HttpContext:
    """One request, from its head to the end of its answer."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, *, max_bytes: int, write_seconds: float) -> None:
        """Take a request whose head has arrived.

        Args:
            scope: As ASGI has it, like the next two.
            receive: Gives the next part of the body.
            send: Sends a part of the answer.
            max_bytes: Largest body.
            write_seconds: How long a part of the answer may wait for its reader.
        """
        self._scope, self._receive, self._send = scope, receive, send
        self._max_bytes = max_bytes
        self._write_seconds = write_seconds
        self._headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
        self._request_id = ""
        self._timeout = self.header(TIMEOUT_HEADER)
        self.key = self._key_of_headers()
        """The caller's token; empty without one. May be set: some callers have it in the body."""
        self.gone = False
        """Whether the caller has closed the connection, so that the work for it was cancelled."""
        self._arrived = False
        self.begun = False
        """Whether an answer has been begun."""

    @property
    def path_values(self) -> Mapping[str, str]:
        """What stands in the places of the route's path that have a name."""
        return cast("Mapping[str, str]", self._scope.get("path_params", {}))

    @property
    def query(self) -> bytes:
        """What follows the path after a question mark."""
        return cast(bytes, self._scope["query_string"])

    @property
    def origin(self) -> str:
        """Scheme and address by which the caller reaches this server, as the caller says it."""
        host = self.header("host")
        if not _HOST.fullmatch(host):
            name, port = self._scope["server"] or ("localhost", 0)
            host = f"[{name}]:{port}" if ":" in name else f"{name}:{port}"
        return f"{self._scope['scheme']}://{host}"

    def header(self, name: str) -> str:
        """The first header of this name in lower case; empty if there is none."""
        return next((value for key, value in self._headers if key == name), "")

    # What follows is called as methods of `grpc.aio.ServicerContext` are.

    def invocation_metadata(self) -> Sequence[tuple[str, str]]:
        """The headers, of which `authorization` has the token wherever it came from."""
        others = [(name, value) for name, value in self._headers if name not in _TOKEN_HEADERS]
        return [*others, (AUTHORIZATION_KEY, f"Bearer {self.key}")] if self.key else others

    def peer(self) -> str:
        """The caller's address as gRPC writes it."""
        host, port = self._scope["client"] or ("", 0)
        return f"ipv6:{quote(f'[{host}]')}:{port}" if ":" in host else f"ipv4:{host}:{port}"

    def auth_context(self) -> Mapping[str, Sequence[bytes]]:
        """The names in the caller's certificate."""
        certificate = self._scope["state"][CONNECTION].peer_certificate()
        names = [value.encode() for _, value in certificate.get("subjectAltName", ())]
        common = [
            value.encode() for part in certificate.get("subject", ()) for key, value in part if key == "commonName"
        ]
        return {"x509_subject_alternative_name": names, "x509_common_name": common}

    def time_remaining(self) -> float | None:
        """Seconds that the caller gives to the call; None if it does not say, or not in a way that is allowed."""
        return float(self._timeout) if _DECIMAL.fullmatch(self._timeout) else None

    def set_trailing_metadata(self, metadata: Iterable[tuple[str, str | bytes]], /) -> None:
        """Take the id of the request, a header of the answer."""
        self._request_id = str(dict(metadata)[REQUEST_ID_KEY])

    async def abort(self, code: grpc.StatusCode, details: str, metadata: Iterable[tuple[str, str | bytes]], /) -> Never:
        """End the call with a status, by raising `Aborted`."""
        raise Aborted(status_pb2.Status.FromString(dict(metadata)[DETAILS_KEY]))

    async def read(self) -> bytes:
        """The body. Raises TooLarge."""
        return b"".join([part async for part in self.parts(self._max_bytes)])

    async def parts(self, max_bytes: int) -> AsyncGenerator[bytes, None]:
        """The parts of the body, as they arrive. Raises TooLarge."""
        try:
            announced = int(self.header("content-length") or 0)
        except ValueError:
            announced = 0
        taken, more = 0, True
        while more:
            if max(announced, taken) > max_bytes:
                raise TooLarge("request", f"more than {max_bytes} bytes", f"at most {max_bytes} bytes")
            part = await self._next()
            if part["type"] == "http.disconnect":
                self.gone = True
                raise asyncio.CancelledError
            taken += len(part["body"])
            more = part["more_body"]
            yield part["body"]

    async def write(self, message: ProtoMessage) -> None:
        """Send a message of a stream as a server-sent event."""
        await self.send_event("", json_format.MessageToDict(message))

    # What follows is of HTTP alone.

    def check(self) -> None:
        """Raise InvalidInput for a header that is not allowed."""
        if self._timeout and self.time_remaining() is None:
            raise InvalidInput(TIMEOUT_HEADER, self._timeout, "seconds as a decimal number, such as 2.5")

    @asynccontextmanager
    async def cancelled_when_gone(self) -> AsyncIterator[None]:
        """A context in which the current task is cancelled when the caller closes the connection."""
        task = asyncio.current_task()
        assert task is not None

        async def watch() -> None:
            await self._until_gone()
            self.gone = True
            task.cancel()

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait((watching,))

    async def _until_gone(self) -> None:
        while (await self._next())["type"] != "http.disconnect":
            pass

    async def _next(self) -> Message:
        """The next part of the body, or the news that the caller has gone."""
        part = await self._receive()
        self._arrived = not part.get("more_body", False)
        return part

    async def _discard_rest(self) -> None:
        """Read what is left of the body. If the connection was closed before, the caller would lose the answer."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_SECONDS):
                while not self._arrived:
                    await self._next()

    async def respond(self, status: int, body: bytes, content_type: str = JSON, headers: Headers = ()) -> None:
        """Send the answer. Returns when nearly all of it has been taken, so that its memory is counted until then."""
        length = (("content-type", content_type), ("content-length", str(len(body))))
        await self._start(status, (*(length if status != _NO_CONTENT else ()), *headers))
        await self._write(body, more=True)
        await self._discard_rest()
        await self._write(b"", more=False)

    async def send_event(self, name: str, content: object) -> None:
        """Send a server-sent event, which has no name if `name` is empty. Waits until its reader takes it."""
        if not self.begun:
            # Proxies should pass each event on as it comes.
            await self._start(
                200, (("content-type", EVENTS), ("cache-control", "no-store"), ("x-accel-buffering", "no"))
            )
        event = f"event: {name}\n" if name else ""
        part = f"{event}data: {to_json(content).decode()}\n\n".encode()
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end_events(self) -> None:
        """End a stream of events."""
        await self._write(b"", more=False)

    async def _start(self, status: int, headers: Headers) -> None:
        self.begun = True
        always = (("date", formatdate(usegmt=True)), (REQUEST_ID_KEY, self._request_id))
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in (*headers, *always)]
        await self._send({"type": "http.response.start", "status": status, "headers": encoded})

    async def _write(self, body: bytes, *, more: bool) -> None:
        """Send a part of the body. If nobody takes it for too long, the connection is ended."""
        try:
            async with asyncio.timeout(self._write_seconds):
                await self._send({"type": "http.response.body", "body": body, "more_body": more})
        except TimeoutError:
            await self.drop()

    async def drop(self) -> None:
        """End the connection, and wait until uvicorn knows."""
        self._scope["state"][CONNECTION].abort()
        await self._until_gone()

    def _key_of_headers(self) -> str:
        for name in _KEY_HEADERS:
            if key := self.header(name).strip():
                return key
        found = _AUTHORIZATION.fullmatch(self.header(AUTHORIZATION_KEY).strip())
        return found[1] if found else ""


def to_json(content: object) -> bytes:
    """JSON in UTF-8."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
