"""Clients that make calls continuously, whatever happens to the server, and check every answer."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.client.client import TranslationClient
from dragoman_service.client.connection import Tls
from dragoman_service.client.values import Options, stream_request, translate_request
from support.tiny import sentences
from support.waiting import wait_until

OPTIONS = Options(max_length=30)
"""Options of all calls. Without `max_length`, a model of random weights would reach its own limit."""
DEADLINE = 60.0
"""Seconds after which a call counts as lost."""
PAUSE = 0.02
"""Seconds between two calls of a client, so that the machine is busy but not overloaded."""

ChannelOptions = Sequence[tuple[str, Any]]
ALONE: ChannelOptions = (("grpc.use_local_subchannel_pool", 1),)
"""Options of a channel that shares no connection with other channels of the process."""


@dataclass
class Traffic:
    """The outcomes of all calls so far."""

    answered: Counter[str] = field(default_factory=Counter)
    """Number of calls with the right answer, by method."""
    failed: Counter[grpc.StatusCode] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    """Messages of failed calls, and wrong answers."""

    @property
    def calls(self) -> int:
        return self.answered.total() + self.failed.total()

    def wait_for(self, more: int, seconds: float = DEADLINE) -> None:
        """Wait until `more` further calls of each method are answered."""
        wanted = {method: self.answered[method] + more for method in ("unary", "stream")}
        wait_until(lambda: all(self.answered[m] >= n for m, n in wanted.items()), self.__str__, seconds)

    def __str__(self) -> str:
        failed = {code.name: count for code, count in self.failed.items()}
        return f"{dict(self.answered)} answered, {failed} failed; {self.problems[:5]}"


def translations(address: str, count: int = 40, tls: bool | Tls = False) -> dict[str, str]:
    """Texts of one to three sentences, and a few of 40, with the translations by an undisturbed server."""
    words = sentences(count + 40, seed=5)
    texts = [" ".join(words[index : index + (40 if index % 10 == 0 else 1 + index % 3)]) for index in range(count)]
    with TranslationClient(address, tls=tls) as client:
        return {text: done.text for text, done in zip(texts, client.translate(texts, OPTIONS), strict=True)}


@contextmanager
def traffic(
    address: str,
    expected: Mapping[str, str],
    *,
    clients: int = 8,
    channel_options: ChannelOptions = (),
    wait_for_ready: bool = False,
    shared: bool = False,
    credentials: grpc.ChannelCredentials | None = None,
) -> Iterator[Traffic]:
    """Run clients on threads with plain gRPC channels: half of them make unary calls, half make streaming calls.

    Each client has its own connection, unless `shared`, with TLS if there are `credentials`. Running calls are waited
    for at the end.
    """
    seen = Traffic()
    stop = threading.Event()
    lock = threading.Lock()

    def client(number: int, channel: grpc.Channel) -> None:
        rng = random.Random(number)
        method = ("unary", "stream")[number % 2]
        call = {"unary": _unary, "stream": _stream}[method](channel, wait_for_ready)
        while not stop.wait(PAUSE):
            text = rng.choice(list(expected))
            code, answer = _outcome(call, text)
            with lock:
                if code is not None:
                    seen.failed[code] += 1
                    seen.problems.append(f"{method}: {code.name}: {answer}")
                elif answer != expected[text]:
                    seen.problems.append(f"{method}: {text!r} became {answer!r} and not {expected[text]!r}")
                else:
                    seen.answered[method] += 1

    with ExitStack() as stack:
        count = 1 if shared else clients
        made = [_channel(address, [*ALONE, *channel_options], credentials) for _ in range(count)]
        channels = [stack.enter_context(channel) for channel in made]
        threads = [Thread(target=client, args=(n, channels[n % count]), daemon=True) for n in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            stop.set()
            for thread in threads:
                thread.join(2 * DEADLINE)
    assert not any(thread.is_alive() for thread in threads), "a call never ended"


def _channel(address: str, options: ChannelOptions, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
    if credentials is None:
        return grpc.insecure_channel(address, options)
    return grpc.secure_channel(address, credentials, options)


def _outcome(call: Callable[[str], str], text: str) -> tuple[grpc.StatusCode | None, str]:
    try:
        return None, call(text)
    except grpc.RpcError as error:
        return error.code(), error.details() or ""


def _unary(channel: grpc.Channel, wait_for_ready: bool) -> Callable[[str], str]:
    stub = translation_pb2_grpc.TranslationStub(channel)

    def call(text: str) -> str:
        request = translate_request([text], (), OPTIONS)
        response = stub.Translate(request, timeout=DEADLINE, wait_for_ready=wait_for_ready)
        return str(response.translations[0].hypotheses[0].text)

    return call


def _stream(channel: grpc.Channel, wait_for_ready: bool) -> Callable[[str], str]:
    stub = translation_pb2_grpc.TranslationStub(channel)

    def call(text: str) -> str:
        request = stream_request(text, "", OPTIONS)
        responses: list[pb.TranslateStreamResponse] = list(
            stub.TranslateStream(request, timeout=DEADLINE, wait_for_ready=wait_for_ready)
        )
        pieces = "".join(response.chunk for response in responses)
        whole = responses[-1].result.translation.hypotheses[0].text
        return pieces if pieces == whole else f"{pieces!r} in pieces, {whole!r} as a whole"

    return call
