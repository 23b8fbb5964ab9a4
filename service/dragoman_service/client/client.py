"""Python clients for a Dragoman server: `TranslationClient`, and `AsyncTranslationClient` for asyncio.

with TranslationClient("localhost:50051") as client:
    for translation in client.translate(["Good morning.", "How are you?"], Options(target_language="de")):
        print(translation.text)
"""

from __future__ import annotations

import itertools
import json
import time
from collections import deque
from collections.abc import AsyncGenerator, Generator, Iterable, Iterator, Sequence
from typing import Any

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.connection import Connection, Tls, Token
from dragoman_service.client.errors import error_of
from dragoman_service.client.values import (
    LanguageCandidate,
    Model,
    Options,
    Translation,
    detections,
    models,
    stream_item,
    stream_request,
    translate_request,
    translations,
)

DEFAULT_ADDRESS = "localhost:50051"
DEFAULT_OPTIONS = Options()
_MAX_REPLY_BYTES = 256 * 2**20


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
            texts_per_call: Long lists of texts are divided into calls of this many.
            concurrency: Calls of one list that run at the same time.
            attempts: 1 to 5. A call that ends with UNAVAILABLE or RESOURCE_EXHAUSTED is sent up to `attempts` times,
                with growing pauses.
            tls: Whether the connection uses TLS, or the settings of TLS.
            token: Sent with every call, as metadata `authorization: Bearer TOKEN`. Without TLS it is sent within this
                machine only, unless Token says otherwise.
            metadata: Further pairs of lower-case key and value, sent with every call.

        Raises:
            ConnectionSettingsError: A ValueError. `tls`, `token` or `metadata` is not allowed, or a file not readable.
        """
        self._texts_per_call = texts_per_call
        self._concurrency = concurrency
        self._connection = Connection(address, tls, token, metadata)
        self._channel = self._connection.channel(_channel_options(attempts))
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

        `target_prefixes` is one for each text, or one string for all. `deadline` is in seconds, for all texts
        together. Raises one of `dragoman_service.client.errors`; if one call fails, the others are cancelled.
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
        requests = _requests(texts, target_prefixes, options, self._texts_per_call)
        timeout = _Timeout(deadline)
        running: deque[Any] = deque()
        try:
            while True:
                for request in itertools.islice(requests, self._concurrency - len(running)):
                    metadata = self._connection.metadata()
                    running.append(self._stub.Translate.future(request, timeout=timeout.left(), metadata=metadata))
                if not running:
                    return
                response = running[0].result()
                running.popleft()
                yield from translations(response)
        except grpc.RpcError as error:
            raise error_of(error) from None
        finally:
            for call in running:
                call.cancel()

    def translate_stream(
        self,
        text: str,
        options: Options = DEFAULT_OPTIONS,
        *,
        target_prefix: str = "",
        deadline: float | None = None,
    ) -> Generator[str | Translation, None, None]:
        """Translate one text: yields pieces of text as soon as they are final, then the whole as a Translation.

        Leaving the iteration early cancels the call.
        """
        request = stream_request(text, target_prefix, options)
        call = self._stub.TranslateStream(request, timeout=deadline, metadata=self._connection.metadata())
        try:
            for response in call:
                yield stream_item(response)
        except grpc.RpcError as error:
            raise error_of(error) from None
        finally:
            call.cancel()

    def detect_language(
        self, texts: Sequence[str], languages: Sequence[str] = (), *, deadline: float | None = None
    ) -> list[list[LanguageCandidate]]:
        """The languages that each text may be in, the likeliest first; none for a text without letters.

        `languages` are those that are possible; empty: those of the models of the server.
        `deadline` is in seconds. Raises one of `dragoman_service.client.errors`.
        """
        request = pb.DetectLanguageRequest(texts=texts, languages=languages)
        try:
            metadata = self._connection.metadata()
            return detections(self._stub.DetectLanguage(request, timeout=deadline, metadata=metadata))
        except grpc.RpcError as error:
            raise error_of(error) from None

    def list_models(self, *, deadline: float | None = None) -> list[Model]:
        """The models that the server has."""
        try:
            metadata = self._connection.metadata()
            return models(self._stub.ListModels(pb.ListModelsRequest(), timeout=deadline, metadata=metadata))
        except grpc.RpcError as error:
            raise error_of(error) from None

    def close(self) -> None:
        """Close the connection. Calls still running are cancelled."""
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
        self._connection = Connection(address, tls, token, metadata)
        self._channel = self._connection.aio_channel(_channel_options(attempts))
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
        requests = _requests(texts, target_prefixes, options, self._texts_per_call)
        timeout = _Timeout(deadline)
        running: deque[Any] = deque()
        try:
            while True:
                for request in itertools.islice(requests, self._concurrency - len(running)):
                    metadata = self._connection.metadata()
                    running.append(self._stub.Translate(request, timeout=timeout.left(), metadata=metadata))
                if not running:
                    return
                response = await running[0]
                running.popleft()
                for translation in translations(response):
                    yield translation
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        finally:
            for call in running:
                call.cancel()

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
        call = self._stub.TranslateStream(request, timeout=deadline, metadata=self._connection.metadata())
        try:
            async for response in call:
                yield stream_item(response)
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None
        finally:
            call.cancel()

    async def detect_language(
        self, texts: Sequence[str], languages: Sequence[str] = (), *, deadline: float | None = None
    ) -> list[list[LanguageCandidate]]:
        """As TranslationClient.detect_language."""
        request = pb.DetectLanguageRequest(texts=texts, languages=languages)
        try:
            metadata = self._connection.metadata()
            return detections(await self._stub.DetectLanguage(request, timeout=deadline, metadata=metadata))
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None

    async def list_models(self, *, deadline: float | None = None) -> list[Model]:
        """The models that the server has."""
        try:
            metadata = self._connection.metadata()
            return models(await self._stub.ListModels(pb.ListModelsRequest(), timeout=deadline, metadata=metadata))
        except grpc.aio.AioRpcError as error:
            raise error_of(error) from None

    async def close(self) -> None:
        """Close the connection. Calls still running are cancelled."""
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


def _requests(
    texts: Iterable[str], prefixes: Sequence[str] | str, options: Options, texts_per_call: int
) -> Iterator[pb.TranslateRequest]:
    if isinstance(texts, str):
        raise TypeError("texts: got one string; allowed: a list of strings")
    rest = iter(texts)
    left = iter(()) if isinstance(prefixes, str) else iter(prefixes)
    while chunk := list(itertools.islice(rest, texts_per_call)):
        if isinstance(prefixes, str):
            chosen = [prefixes] * len(chunk) if prefixes else []
        else:
            chosen = list(itertools.islice(left, len(chunk)))
            if prefixes and len(chosen) != len(chunk):
                raise ValueError("target_prefixes: fewer than texts; allowed: none, or one for each text")
        yield translate_request(chunk, chosen, options)
    if next(left, None) is not None:
        raise ValueError("target_prefixes: more than texts; allowed: none, or one for each text")


def _channel_options(attempts: int) -> list[tuple[str, Any]]:
    if not 1 <= attempts <= 5:
        raise ValueError(f"attempts: got {attempts}; allowed: 1 to 5")
    # Round robin uses all addresses of a name, such as those of a headless Kubernetes service.
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if attempts > 1:
        policy = {
            "maxAttempts": attempts,
            "initialBackoff": "0.5s",
            "maxBackoff": "10s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["RESOURCE_EXHAUSTED", "UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": [{"service": "dragoman.v1.Translation"}], "retryPolicy": policy}]
    return [("grpc.max_receive_message_length", _MAX_REPLY_BYTES), ("grpc.service_config", json.dumps(config))]
