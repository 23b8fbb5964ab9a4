"""Python clients for a Dragoman server: `TranslationClient`, and `AsyncTranslationClient` for asyncio.

with TranslationClient("localhost:50051") as client:
    for translation in client.translate(["Good morning.", "How are you?"], Options(target_language="de")):
        print(translation.text)
"""

from __future__ import annotations

import asyncio
import itertools
import json
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.calls import Part, divided, parts, pause
from dragoman_service.client.connection import Connection, Tls, Token
from dragoman_service.client.errors import InvalidRequest, TranslationError, error_of
from dragoman_service.client.values import (
    LanguageCandidate,
    Model,
    Options,
    ScoredTranslation,
    Translation,
    detections,
    models,
    score_request,
    scores,
    stream_item,
    stream_request,
    translate_request,
    translations,
)

DEFAULT_ADDRESS = "localhost:50051"
DEFAULT_OPTIONS = Options()
_MAX_REPLY_BYTES = 256 * 2**20


_CHANNEL_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.max_receive_message_length", _MAX_REPLY_BYTES),
    # Round robin uses all addresses of a name, such as those of a headless Kubernetes service.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    # Otherwise minutes pass before a server is noticed that was away for some time.
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class TranslationClient:
    """A synchronous connection to a server. Threads may share it. Use it as a context manager, or call `close`."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        texts_per_call: int = 64,
        concurrency: int = 4,
        attempts: int = 1,
        tls: bool | Tls = False,
        token: str | Token = "",
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """Set up the channel; nothing is sent before the first call.

        Args:
            address: HOST:PORT.
            texts_per_call: Long lists of texts are divided into calls of this many, or fewer if they are long.
            concurrency: Calls of one list that run at the same time.
            attempts: Most times that a call is sent which ends with UNAVAILABLE, RESOURCE_EXHAUSTED, or CANCELLED by
                the server. The pauses grow from half a second to ten, or are as long as the server says.
            tls: Whether the connection uses TLS, or the settings of TLS.
            token: Sent with every call, as metadata `authorization: Bearer TOKEN`. Without TLS it is sent within this
                machine only, unless Token says otherwise.
            metadata: Further pairs of lower-case key and value, sent with every call.

        Raises:
            ConnectionSettingsError: A ValueError. `tls`, `token` or `metadata` is not allowed, or a file not readable.
        """
        self._texts_per_call = texts_per_call
        self._concurrency = concurrency
        self._attempts = _checked(attempts)
        self._connection = Connection(address, tls, token, metadata)
        self._closed = threading.Event()
        self._channel = self._connection.channel(_CHANNEL_OPTIONS)
        self._stub = translation_pb2_grpc.TranslationStub(self._channel)

    def translate(
        self,
        texts: Sequence[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefixes: Sequence[str] | str = (),
        deadline: float | None = None,
    ) -> list[Translation]:
        """Translate texts. Returns one translation for each text, in order.

        `target_prefixes` is one for each text, or one string for all that are not blank. `deadline` is in seconds, for
        all texts together. Texts go in as many calls as the limits of the server make necessary. Raises one of
        `dragoman_service.client.errors`; if one call fails, the others are cancelled.
        """
        return list(self.translate_many(texts, options, target_prefixes=target_prefixes, deadline=deadline))

    def translate_many(
        self,
        texts: Iterable[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefixes: Sequence[str] | str = (),
        deadline: float | None = None,
    ) -> Generator[Translation, None, None]:
        """As `translate`, but reads the texts lazily and yields each translation, in order, as soon as it is done."""
        with closing(self.translate_each(texts, options, target_prefixes=target_prefixes, deadline=deadline)) as found:
            for outcome in found:
                if isinstance(outcome, InvalidRequest):
                    raise outcome
                yield outcome

    def translate_each(
        self,
        texts: Iterable[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefixes: Sequence[str] | str = (),
        deadline: float | None = None,
    ) -> Generator[Translation | InvalidRequest, None, None]:
        """As `translate_many`, but yields an error in the place of each text that is refused, and goes on."""
        waiting = parts(texts, target_prefixes, self._texts_per_call)
        timeout = _Timeout(deadline)
        running: deque[_Running] = deque()

        def begun(part: Part) -> _Running:
            return _Running(part, None if part.refused else self._begin(part, options, timeout))

        try:
            while True:
                running.extend(map(begun, itertools.islice(waiting, max(0, self._concurrency - len(running)))))
                if not running:
                    return
                first = running[0]
                if first.part.refused:
                    running.popleft()
                    yield first.part.refused
                    continue
                try:
                    response = first.call.result()
                except grpc.RpcError as failure:
                    error = error_of(failure)
                else:
                    running.popleft()
                    yield from translations(response)
                    continue
                seconds = pause(error, first.attempt, self._attempts, timeout.left())
                if seconds is None:
                    running.popleft()
                    running.extendleft(map(begun, reversed(divided(first.part, error))))
                else:
                    self._wait(seconds, error)
                    first.call, first.attempt = self._begin(first.part, options, timeout), first.attempt + 1
        finally:
            for each in running:
                if each.call is not None:
                    each.call.cancel()

    def translate_stream(
        self,
        text: str,
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefix: str = "",
        deadline: float | None = None,
    ) -> Generator[str | Translation, None, None]:
        """Translate one text: yields pieces of text as soon as they are final, then the whole as a Translation.

        Leaving the iteration early cancels the call. A call that has sent a piece is not tried again.
        """
        request = stream_request(text, target_prefix, options)
        timeout = _Timeout(deadline)
        for attempt in itertools.count(1):
            call = self._stub.TranslateStream(request, timeout=timeout.left(), metadata=self._connection.metadata())
            has_begun = False
            try:
                for response in call:
                    has_begun = True
                    yield stream_item(response)
                return
            except grpc.RpcError as failure:
                error = error_of(failure)
            finally:
                call.cancel()
            seconds = None if has_begun else pause(error, attempt, self._attempts, timeout.left())
            if seconds is None:
                raise error
            self._wait(seconds, error)

    def score(
        self,
        texts: Sequence[str],
        translations: Sequence[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        deadline: float | None = None,
    ) -> list[ScoredTranslation]:
        """How likely a model finds the translation of each text. The texts are not split, and go in one call.

        Of `options`, those of the model, the languages, the priority and `return_tokens` count. `deadline` is in
        seconds. Raises one of `dragoman_service.client.errors`.
        """
        return scores(self._sent(self._stub.Score, score_request(texts, translations, options), deadline))

    def detect_language(
        self, texts: Sequence[str], languages: Sequence[str] = (), *, deadline: float | None = None
    ) -> list[list[LanguageCandidate]]:
        """The languages that each text may be in, the likeliest first; none for a text without letters.

        `languages` are those that are possible; empty: those of the models of the server.
        `deadline` is in seconds. Raises one of `dragoman_service.client.errors`.
        """
        request = pb.DetectLanguageRequest(texts=texts, languages=languages)
        return detections(self._sent(self._stub.DetectLanguage, request, deadline))

    def list_models(self, *, deadline: float | None = None) -> list[Model]:
        """The models that the server has."""
        return models(self._sent(self._stub.ListModels, pb.ListModelsRequest(), deadline))

    def _sent(self, method: Any, request: Any, deadline: float | None) -> Any:
        """The reply to a request. Raises the error of the last attempt."""
        timeout = _Timeout(deadline)
        for attempt in itertools.count(1):
            metadata = self._connection.metadata()
            try:
                return method(request, timeout=timeout.left(), metadata=metadata)
            except grpc.RpcError as failure:
                error = error_of(failure)
            seconds = pause(error, attempt, self._attempts, timeout.left())
            if seconds is None:
                raise error
            self._wait(seconds, error)
        raise AssertionError

    def _begin(self, part: Part, options: Options, timeout: _Timeout) -> Any:
        request, metadata = translate_request(part.texts, part.prefixes, options), self._connection.metadata()
        return self._stub.Translate.future(request, timeout=timeout.left(), metadata=metadata)

    def _wait(self, seconds: float, error: TranslationError) -> None:
        """Wait before the next attempt. Raises the error of the last one if the client is closed meanwhile."""
        if self._closed.wait(seconds):
            raise error

    def close(self) -> None:
        """Close the connection. Calls still running are cancelled."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> TranslationClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class AsyncTranslationClient:
    """An asyncio connection to a server. Use it as an asynchronous context manager, or call `close`."""

    def __init__(
        self,
        address: str = DEFAULT_ADDRESS,
        *,
        texts_per_call: int = 64,
        concurrency: int = 4,
        attempts: int = 1,
        tls: bool | Tls = False,
        token: str | Token = "",
        metadata: Sequence[tuple[str, str]] = (),
    ) -> None:
        """As TranslationClient. Create it inside the event loop."""
        self._texts_per_call = texts_per_call
        self._concurrency = concurrency
        self._attempts = _checked(attempts)
        self._connection = Connection(address, tls, token, metadata)
        self._is_closed = False
        self._channel = self._connection.aio_channel(_CHANNEL_OPTIONS)
        self._stub = translation_pb2_grpc.TranslationStub(self._channel)

    async def translate(
        self,
        texts: Sequence[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefixes: Sequence[str] | str = (),
        deadline: float | None = None,
    ) -> list[Translation]:
        """As TranslationClient.translate."""
        found = self.translate_many(texts, options, target_prefixes=target_prefixes, deadline=deadline)
        return [translation async for translation in found]

    async def translate_many(
        self,
        texts: Iterable[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefixes: Sequence[str] | str = (),
        deadline: float | None = None,
    ) -> AsyncGenerator[Translation, None]:
        """As TranslationClient.translate_many."""
        each = self.translate_each(texts, options, target_prefixes=target_prefixes, deadline=deadline)
        async with aclosing(each) as found:
            async for outcome in found:
                if isinstance(outcome, InvalidRequest):
                    raise outcome
                yield outcome

    async def translate_each(
        self,
        texts: Iterable[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefixes: Sequence[str] | str = (),
        deadline: float | None = None,
    ) -> AsyncGenerator[Translation | InvalidRequest, None]:
        """As TranslationClient.translate_each."""
        waiting = parts(texts, target_prefixes, self._texts_per_call)
        timeout = _Timeout(deadline)
        running: deque[_Running] = deque()

        def begun(part: Part) -> _Running:
            return _Running(part, None if part.refused else self._begin(part, options, timeout))

        try:
            while True:
                running.extend(map(begun, itertools.islice(waiting, max(0, self._concurrency - len(running)))))
                if not running:
                    return
                first = running[0]
                if first.part.refused:
                    running.popleft()
                    yield first.part.refused
                    continue
                try:
                    response = await first.call
                except grpc.aio.AioRpcError as failure:
                    error = error_of(failure)
                else:
                    running.popleft()
                    for translation in translations(response):
                        yield translation
                    continue
                seconds = pause(error, first.attempt, self._attempts, timeout.left())
                if seconds is None:
                    running.popleft()
                    running.extendleft(map(begun, reversed(divided(first.part, error))))
                else:
                    await self._wait(seconds, error)
                    first.call, first.attempt = self._begin(first.part, options, timeout), first.attempt + 1
        finally:
            for each in running:
                if each.call is not None:
                    each.call.cancel()

    async def translate_stream(
        self,
        text: str,
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefix: str = "",
        deadline: float | None = None,
    ) -> AsyncGenerator[str | Translation, None]:
        """As TranslationClient.translate_stream. Close it (`contextlib.aclosing`) to cancel the call at once."""
        request = stream_request(text, target_prefix, options)
        timeout = _Timeout(deadline)
        for attempt in itertools.count(1):
            call = self._stub.TranslateStream(request, timeout=timeout.left(), metadata=self._connection.metadata())
            has_begun = False
            try:
                async for response in call:
                    has_begun = True
                    yield stream_item(response)
                return
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure)
            finally:
                call.cancel()
            seconds = None if has_begun else pause(error, attempt, self._attempts, timeout.left())
            if seconds is None:
                raise error
            await self._wait(seconds, error)

    async def score(
        self,
        texts: Sequence[str],
        translations: Sequence[str],
        options: Options = DEFAULT_OPTIONS,
        *,
        deadline: float | None = None,
    ) -> list[ScoredTranslation]:
        """As TranslationClient.score."""
        return scores(await self._sent(self._stub.Score, score_request(texts, translations, options), deadline))

    async def detect_language(
        self, texts: Sequence[str], languages: Sequence[str] = (), *, deadline: float | None = None
    ) -> list[list[LanguageCandidate]]:
        """As TranslationClient.detect_language."""
        request = pb.DetectLanguageRequest(texts=texts, languages=languages)
        return detections(await self._sent(self._stub.DetectLanguage, request, deadline))

    async def list_models(self, *, deadline: float | None = None) -> list[Model]:
        """The models that the server has."""
        return models(await self._sent(self._stub.ListModels, pb.ListModelsRequest(), deadline))

    async def _sent(self, method: Any, request: Any, deadline: float | None) -> Any:
        """As TranslationClient._sent."""
        timeout = _Timeout(deadline)
        for attempt in itertools.count(1):
            metadata = self._connection.metadata()
            try:
                return await method(request, timeout=timeout.left(), metadata=metadata)
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure)
            seconds = pause(error, attempt, self._attempts, timeout.left())
            if seconds is None:
                raise error
            await self._wait(seconds, error)
        raise AssertionError

    def _begin(self, part: Part, options: Options, timeout: _Timeout) -> Any:
        request, metadata = translate_request(part.texts, part.prefixes, options), self._connection.metadata()
        return self._stub.Translate(request, timeout=timeout.left(), metadata=metadata)

    async def _wait(self, seconds: float, error: TranslationError) -> None:
        """As TranslationClient._wait."""
        if self._is_closed:
            raise error
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        """Close the connection. Calls still running are cancelled."""
        self._is_closed = True
        await self._channel.close(None)

    async def __aenter__(self) -> AsyncTranslationClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


class _Timeout:
    """The time left for the calls of one task, which share a deadline."""

    def __init__(self, seconds: float | None) -> None:
        self._end = None if seconds is None else time.monotonic() + seconds

    def left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())


@dataclass(slots=True)
class _Running:
    """A call that runs."""

    part: Part
    call: Any
    """None if the part is refused."""
    attempt: int = 1


def _checked(attempts: int) -> int:
    if attempts < 1:
        raise ValueError(f"attempts: got {attempts}; allowed: 1 or more")
    return attempts
