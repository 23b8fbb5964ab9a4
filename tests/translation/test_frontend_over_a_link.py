"""A frontend whose engine is in another process: translations, streams, and errors once the process has ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import aclosing
from typing import Any, cast

import pytest

from dragoman_service.engine.request import DecodingOptions
from dragoman_service.errors import EngineFailure, Overloaded
from dragoman_service.translation.frontend import Frontend
from support.elsewhere import Elsewhere
from support.fake_workers import FakeWorkers, served
from support.frontends import call, collect, on_frontend, translate, until

TEXT = "One. Two!\n\n  three\t"


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., Elsewhere]]:
    made: list[Elsewhere] = []

    def make(**options: Any) -> Elsewhere:
        made.append(Elsewhere(**options))
        return made[-1]

    yield make
    for engine in made:
        engine.process.kill()
        engine.process.join()


def test_translations_are_those_of_an_engine_in_this_process(elsewhere: Callable[..., Elsewhere]) -> None:
    options = DecodingOptions(beam_size=2, num_hypotheses=2)
    texts = (TEXT, "", "four", "***", "many. " * 30)
    assert translate(elsewhere().model(), *texts, options=options) == translate(
        served(FakeWorkers()), *texts, options=options
    )


def test_a_stream_comes_in_pieces(elsewhere: Callable[..., Elsewhere]) -> None:
    model = elsewhere().model()
    *pieces, _ = on_frontend(model, lambda frontend: collect(frontend.stream(call(model, TEXT))))
    assert "".join(cast(list[str], pieces)) == TEXT.upper()
    assert len(pieces) > 3


def test_what_the_engine_refuses_reaches_the_caller(elsewhere: Callable[..., Elsewhere]) -> None:
    model = elsewhere(held=True, permits=1).model()

    async def work(frontend: Frontend) -> None:
        first, second = (asyncio.create_task(frontend.translate(call(model, "a"))) for _ in range(2))
        with pytest.raises(Overloaded, match="queue is full: 1 sentences"):
            await second
        first.cancel()
        await asyncio.wait([first])

    on_frontend(model, work)


def test_calls_fail_when_the_engine_s_process_dies(elsewhere: Callable[..., Elsewhere]) -> None:
    engine = elsewhere(held=True)
    model = engine.model()

    async def work(frontend: Frontend) -> None:
        waiting = asyncio.create_task(frontend.translate(call(model, TEXT)))
        stream = asyncio.create_task(_read(frontend))
        await until(lambda: engine.connection is not None)
        await asyncio.sleep(0.1)
        engine.process.kill()
        for task in (waiting, stream):
            with pytest.raises(EngineFailure, match="link to the engine is lost"):
                await task
        with pytest.raises(EngineFailure, match="link to the engine is lost"):
            await frontend.translate(call(model, TEXT))

    async def _read(frontend: Frontend) -> None:
        async with aclosing(frontend.stream(call(model, TEXT))) as pieces:
            async for _ in pieces:
                pass

    on_frontend(model, work)
