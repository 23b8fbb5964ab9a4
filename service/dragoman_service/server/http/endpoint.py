"""Answers requests of an interface: what happens between the head of a request and the function that maps it.

The order is that of calls of gRPC (`server.methods`): who calls, admission, then the body, then the work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from dragoman_service.errors import DeadlineExceeded
from dragoman_service.interfaces.backend import Backend
from dragoman_service.server.call_lifecycle import Answering
from dragoman_service.server.http.asgi import Receive, Scope, Send
from dragoman_service.server.http.context import JSON, Aborted, Headers, HttpContext, to_json
from dragoman_service.server.http.failure import Failure
from dragoman_service.server.http.fields import Fields, fields_of, is_json
from dragoman_service.server.intake import Intake
from dragoman_service.server.methods import MAX_REPEATED, ClientOf, Identify
from dragoman_service.server.metrics import Metrics
from dragoman_service.translation.settings import RequestLimits

if TYPE_CHECKING:
    from dragoman_service.server.http.documents.jobs import DocumentJobs


@dataclass(frozen=True, slots=True)
class Service:
    """What the requests of all interfaces share."""

    backend: Backend
    metrics: Metrics
    intake: Intake
    identify: Identify
    client_of: ClientOf
    """The client of a call by its address, until its token is known."""
    max_bytes: int
    """Largest body of a request."""
    limits: RequestLimits
    repeated: Mapping[str, int]
    """Maximum number of values of repeated fields, by name, as `Methods` has it."""
    has_tokens: bool
    """Whether calls need tokens."""
    problem: Callable[[], str]
    """Why the server should get no calls now; empty if it should."""
    metrics_port: Callable[[], int]
    """Port of the metrics, if they are at the address of HTTP and the port is known; else 0."""
    write_seconds: float
    """How long a part of an answer may wait for its reader."""
    documents: DocumentJobs
    """The documents that are translated."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """A request whose body has arrived."""

    service: Service
    answering: Answering
    context: HttpContext
    body: bytes

    @property
    def backend(self) -> Backend:
        """See `Service`, as for the next ones."""
        return self.service.backend

    @property
    def limits(self) -> RequestLimits:
        """Limits of a call."""
        return self.service.limits

    @property
    def repeated(self) -> Mapping[str, int]:
        """Maximum number of values of repeated fields, by name."""
        return self.service.repeated

    @property
    def is_json(self) -> bool:
        """Whether the body is said to be JSON."""
        return is_json(self.context.header("content-type"))

    def identify_by(self, key: object) -> None:
        """Identify the caller by a token that the body has. One in the headers comes first. Raises Unauthenticated."""
        if not self.context.key:
            self.context.key = key if isinstance(key, str) else ""
            self.service.identify(self.answering)

    async def fields(self) -> Fields:
        """The fields of query and body. Raises InvalidInput."""
        return await self._fields(self.body)

    async def query_fields(self) -> Fields:
        """The fields of the query. Raises InvalidInput."""
        return await self._fields(b"")

    async def _fields(self, body: bytes) -> Fields:
        most = self.limits.max_texts + MAX_REPEATED
        return await fields_of(self.context.header("content-type"), body, self.context.query, most)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent."""

    content: object
    """Bytes or a text as they are, or what is written as JSON; None: nothing."""
    status: int = 200
    content_type: str = JSON
    headers: Headers = ()

    @property
    def body(self) -> bytes:
        """The bytes to send."""
        if self.content is None:
            return b""
        if isinstance(self.content, bytes):
            return self.content
        if self.content_type != JSON:
            return str(self.content).encode()
        return to_json(self.content)


@dataclass(frozen=True, slots=True)
class Route:
    """One or more paths."""

    paths: Sequence[str]
    method: str
    """Name of the method of `dragoman.v1` that answers, for metrics."""
    handle: Callable[[HttpCall], Awaitable[Answer | None]]
    """Answers. Returns None if it has sent a stream of events."""
    verbs: Sequence[str] = ("POST",)
    has_body: bool = True
    """Whether the body is read."""
    needs_key: bool = True
    """Whether a caller needs a token, where callers need tokens."""
    takes_body: bool = False
    """Whether `handle` reads the body itself, and cares for callers who have gone. Then `has_body` is False."""


@dataclass(frozen=True, slots=True)
class Page:
    """A path that everyone may ask for, and whose answer needs no work."""

    path: str
    answer: Callable[[Service], Answer]
    verb: str = "GET"


@dataclass(frozen=True, slots=True)
class HttpInterface:
    """Routes whose errors look alike."""

    name: str
    """By which operators choose it; empty for `dragoman.v1`, which is always served."""
    api: str
    """Label of its calls in metrics."""
    routes: Sequence[Route]
    fail: Callable[[Failure], Answer]
    """How it says that a call has failed."""
    pages: Sequence[Page] = ()
    key_field: str = ""
    """Field of requests that may have the caller's token; empty: only headers do."""
    any_origin: bool = False
    """Whether pages of all websites may use it, whatever the operator says of others."""


class Endpoint:
    """A route as an application of ASGI."""

    def __init__(self, service: Service, interface: HttpInterface, route: Route) -> None:
        self._service = service
        self._interface = interface
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["method"] == "OPTIONS":  # not of a page, whose question CORS has answered
            await Response(status_code=204, headers={"allow": ", ".join(self._route.verbs)})(scope, receive, send)
            return
        service = self._service
        context = HttpContext(scope, receive, send, max_bytes=service.max_bytes, write_seconds=service.write_seconds)
        try:
            await self._answer(context)
        except asyncio.CancelledError:
            if not context.gone:
                raise
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()

    async def _answer(self, context: HttpContext) -> None:
        service, interface = self._service, self._interface
        headers: Sequence[tuple[str, str]] = ()
        try:
            async with Answering(service.metrics, interface.api, self._route.method, context) as call:
                answer = await self._within_deadline(context, call)
        except Aborted as aborted:
            failure = Failure(aborted.status, had_key=bool(context.key))
            if context.begun:
                await _end_stream(context, failure)
                return
            answer, headers = interface.fail(failure), failure.headers
        if answer is None:
            await context.end_events()
        else:
            await context.respond(answer.status, answer.body, answer.content_type, (*answer.headers, *headers))

    async def _within_deadline(self, context: HttpContext, call: Answering) -> Answer | None:
        context.check()
        try:
            async with asyncio.timeout(call.seconds_left) as limit:
                return await self._handle(context, call)
        except TimeoutError:
            if limit.expired():
                raise DeadlineExceeded("the deadline passed") from None
            raise

    async def _handle(self, context: HttpContext, call: Answering) -> Answer | None:
        service, key_field = self._service, self._interface.key_field
        key_in_body = bool(key_field) and not context.key and self._route.needs_key
        if key_in_body or not self._route.needs_key:
            call.client = service.client_of(context)
        else:
            service.identify(call)
        call.memory = memory = service.intake.admit(call.client)
        body = (await service.intake.read(context, memory) or b"") if self._route.has_body else b""
        request = HttpCall(service, call, context, body)
        if self._route.takes_body:
            return await self._route.handle(request)
        if key_in_body:
            request.identify_by((await request.fields()).get(key_field))
        async with context.cancelled_when_gone():
            return await self._route.handle(request)


async def _end_stream(context: HttpContext, failure: Failure) -> None:
    """Say in a stream that has begun why it ends; a reader that took nothing is not told."""
    if failure.is_cancelled:
        await context.drop()
        return
    await context.send_event("error", failure.content)
    await context.end_events()
