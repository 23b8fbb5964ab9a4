"""Preparation and assembly of long texts on threads, which ends with the call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Generator, Sequence
from dataclasses import replace

import pytest

from dragoman_service.engine.engine import MAX_CONNECTIONS
from dragoman_service.errors import (
    DeadlineExceeded,
    InvalidInput,
)
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.prepare import Sender
from dragoman_service.translation.settings import RequestLimits
from dragoman_service.translation.warnings import WarningKind
from support.fake_workers import CharacterTokenizer, FakeWorkers, served
from support.frontends import LIMITS, call, collect, on_frontend, until


def test_big_input_is_prepared_off_the_loop() -> None:
    model = served(FakeWorkers())
    limits = RequestLimits(max_characters=100_000)
    text = "x" * 100_000

    async def work(frontend: Frontend) -> tuple[str, int]:
        task = asyncio.create_task(frontend.translate(call(model, text)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()
        (result,) = await task
        return result.hypotheses[0].text, result.sentences

    assert on_frontend(model, work, limits) == (text.upper(), 1024)


@pytest.mark.parametrize(
    ("texts", "thread"), [(("a",), "MainThread"), (("a",) * 200, "dragoman-text"), (("a " * 600,), "dragoman-text")]
)
def test_many_texts_are_prepared_off_the_loop(texts: tuple[str, ...], thread: str) -> None:
    encoding: set[str] = set()

    class Tokenizer(CharacterTokenizer):
        def encode(self, text: str) -> list[int]:
            encoding.add(threading.current_thread().name)
            return super().encode(text)

    model = replace(served(FakeWorkers()), tokenizer=Tokenizer())
    limits = RequestLimits(max_characters=2_000)
    on_frontend(model, lambda frontend: frontend.translate(call(model, *texts)), limits)
    assert encoding == {thread}


class LatinTokenizer(CharacterTokenizer):
    """Knows no other letters."""

    fallback_ids = frozenset([1])

    def encode(self, text: str) -> list[int]:
        return [
            token if character.isascii() else 1 for token, character in zip(super().encode(text), text, strict=True)
        ]


def test_sentences_in_a_row_that_the_model_cannot_read_are_one_warning() -> None:
    model = replace(served(FakeWorkers()), tokenizer=LatinTokenizer())
    foreign = "\u4e2d\u3002"
    (result,) = on_frontend(
        model, lambda frontend: frontend.translate(call(model, f"{foreign * 50}5.\n{foreign}\na b\n{foreign * 2}"))
    )
    assert [(it.kind, it.start, it.end) for it in result.warnings] == [
        (WarningKind.SOURCE_NOT_READABLE, 0, 105),
        (WarningKind.SOURCE_NOT_READABLE, 110, 114),
    ]


def test_a_prefix_at_any_length_is_refused_before_it_is_tokenised(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[int] = []
    encode = CharacterTokenizer.encode
    monkeypatch.setattr(
        CharacterTokenizer, "encode", lambda self, text: encoded.append(len(text)) or encode(self, text)
    )
    model = served(FakeWorkers())
    wanted = replace(call(model, "a", "b"), target_prefixes=("a", "x" * 10_000_000))
    problem = r"target_prefixes\[1\]: got '10000000 characters'; allowed: at most 1000"
    with pytest.raises(InvalidInput, match=problem):
        on_frontend(model, lambda frontend: frontend.translate(wanted))
    assert encoded == []


def test_requests_are_made_as_their_turn_comes() -> None:
    engine = FakeWorkers(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        task = asyncio.create_task(frontend.translate(call(model, "a\n" * 500)))
        await until(lambda: engine.running == LIMITS.window)
        assert frontend._port(model).new_id() // MAX_CONNECTIONS <= LIMITS.window + 2
        task.cancel()

    on_frontend(model, work)


@pytest.mark.parametrize("stream", [False, True])
def test_big_answers_are_put_together_off_the_loop(stream: bool) -> None:
    model = served(FakeWorkers())
    decoding: set[str] = set()

    class Tokenizer(CharacterTokenizer):
        def decode(self, ids: Sequence[int]) -> str:
            decoding.add(threading.current_thread().name.split("_")[0])
            return super().decode(ids)

        def stream_decoder(self) -> CharacterTokenizer:
            return CharacterTokenizer()

    model = replace(model, tokenizer=Tokenizer())
    wanted = call(model, "a\n" * 400)
    if stream:
        *_, result = on_frontend(model, lambda frontend: collect(frontend.stream(wanted)))
    else:
        (result,) = on_frontend(model, lambda frontend: frontend.translate(wanted))
    assert result.hypotheses[0].text == "A\n" * 400
    assert decoding == {"dragoman-text"}


@pytest.mark.parametrize("texts", [("a\nb\nc", "d", "e"), ("abcdefghij" * 30, "b")])
def test_too_many_sentences_are_refused(texts: tuple[str, ...]) -> None:
    engine = FakeWorkers()
    model = served(engine, max_source_tokens=101)
    limits = RequestLimits(max_sentences=4)
    with pytest.raises(InvalidInput, match="texts: got 'more than 4 sentences'; allowed: at most 4"):
        on_frontend(model, lambda frontend: frontend.translate(call(model, *texts)), limits)
    assert engine.submitted == []
    allowed = served(FakeWorkers())
    results = on_frontend(allowed, lambda frontend: frontend.translate(call(allowed, "a\nb\n***", "c", "d")), limits)
    assert [result.sentences for result in results] == [2, 1, 1]


class SlowTokenizer(CharacterTokenizer):
    """Waits in `encode` until the test allows it, and counts the calls."""

    def __init__(self) -> None:
        self.encoded = 0
        self.go_on = threading.Event()

    def encode(self, text: str) -> list[int]:
        self.encoded += 1
        assert self.go_on.wait(30)
        return super().encode(text)


def iter_once() -> Generator[None]:
    yield


def test_preparing_ends_with_the_call() -> None:
    tokenizer = SlowTokenizer()
    model = replace(served(FakeWorkers()), tokenizer=tokenizer)

    async def work(frontend: Frontend) -> None:
        task = asyncio.create_task(frontend.translate(call(model, "a\n" * 5_000)))
        await until(lambda: tokenizer.encoded == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tokenizer.go_on.set()
        await frontend.compute("", iter_once(), translations=1_000)

    on_frontend(model, work, RequestLimits())
    assert tokenizer.encoded < 100


def test_preparing_ends_with_the_deadline() -> None:
    tokenizer = SlowTokenizer()
    tokenizer.go_on.set()
    model = replace(served(FakeWorkers()), tokenizer=tokenizer)

    async def work() -> None:
        frontend = Frontend(ModelRegistry([model]), RequestLimits(), clock=lambda: tokenizer.encoded)
        with pytest.raises(DeadlineExceeded):
            await frontend.translate(call(model, "a\n" * 5_000, sender=Sender(deadline=10)))
        frontend.close()

    asyncio.run(work())
    assert tokenizer.encoded == 10
