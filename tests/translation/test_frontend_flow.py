"""The requests of calls in the engine: windows, permits, failures, cancelled calls and draining."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from dragoman_service.engine.request import Event, Failed, Request
from dragoman_service.errors import (
    EngineFailure,
    Overloaded,
    ShuttingDown,
)
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.prepare import Sender
from support.fake_workers import FIRST, FakeWorkers, served, shout
from support.frontends import LIMITS, call, collect, on_frontend, translate, until


def test_a_call_keeps_to_its_window() -> None:
    engine = FakeWorkers()
    model = served(engine)
    (result,) = translate(model, "\n".join("abcdefghij"))
    assert result.hypotheses[0].text == "\n".join("ABCDEFGHIJ")
    assert engine.most_running <= LIMITS.window
    assert model.engine.permits.free == model.engine.permits.capacity


def test_full_queue_refuses_at_once_and_few_permits_only_slow_down() -> None:
    engine = FakeWorkers(held=True)
    model = served(engine, permits=6)

    async def work(frontend: Frontend) -> None:
        big = asyncio.create_task(frontend.translate(call(model, *"abcdef")))
        await until(lambda: engine.running == 4)  # its window
        rest = asyncio.create_task(frontend.translate(call(model, *"uvwxyz", sender=Sender("another"))))
        await until(lambda: engine.running == 5)  # what there was for it
        third = asyncio.create_task(frontend.translate(call(model, "q", sender=Sender("third"))))
        await until(lambda: engine.running == 6)
        with pytest.raises(Overloaded):
            await frontend.translate(call(model, "q", sender=Sender("fourth")))
        engine.release()
        assert [result.hypotheses[0].text for result in await big] == list("ABCDEF")
        assert [result.hypotheses[0].text for result in await rest] == list("UVWXYZ")
        await third

    on_frontend(model, work)
    assert model.engine.permits.free == 6


def test_cancelling_a_call_cancels_all_its_sentences() -> None:
    engine = FakeWorkers(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        task = asyncio.create_task(frontend.translate(call(model, "a\nb\nc", "d")))
        await until(lambda: engine.running == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert engine.running == 0
        assert len(engine.cancelled) == 4
        await until(lambda: model.engine.permits.free == model.engine.permits.capacity)

    on_frontend(model, work)


@pytest.mark.parametrize("stream", [False, True])
def test_permits_of_a_cancelled_call_come_back_when_the_engine_has_let_go(stream: bool) -> None:
    engine = FakeWorkers(held=True)
    engine.deaf = True
    model = served(engine, permits=3)

    async def work(frontend: Frontend) -> None:
        wanted = call(model, "a\nb")
        task = asyncio.create_task(collect(frontend.stream(wanted)) if stream else frontend.translate(wanted))
        await until(lambda: engine.running == 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(engine.cancelled) == 2
        assert model.engine.permits.free == 1  # else a call admitted now would be refused by the engine, halfway
        engine.release()
        await until(lambda: model.engine.permits.free == 3)

    on_frontend(model, work)


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_gives_permits_back_as_fewer_sentences_remain(stream: bool) -> None:
    last = FIRST + ord("d")

    def script(request: Request) -> list[Event]:
        return [] if request.source[0] == last else shout(request)

    engine = FakeWorkers(script)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        wanted = call(model, "a\nb\nc\nd")
        task = asyncio.create_task(collect(frontend.stream(wanted)) if stream else frontend.translate(wanted))
        await until(lambda: model.engine.permits.free == model.engine.permits.capacity - 1)
        assert engine.running == 1
        task.cancel()

    on_frontend(model, work)


def test_one_failed_sentence_fails_the_call_and_cancels_the_others() -> None:
    failure = EngineFailure("out of luck")

    def script(request: Request) -> list[Event]:
        return [Failed(request.id, failure)] if request.source[0] == FIRST + ord("b") else []

    engine = FakeWorkers(script)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        with pytest.raises(EngineFailure, match="out of luck"):
            await frontend.translate(call(model, "a", "b", "c"))
        assert engine.running == 0
        assert len(engine.cancelled) == 2

    on_frontend(model, work)


def test_failures_after_the_first_give_their_permits_back_and_trouble_nobody() -> None:
    engine = FakeWorkers(
        lambda request: [Failed(request.id, EngineFailure(f"number of {chr(request.source[0] - FIRST)}"))], held=True
    )
    model = served(engine)
    trouble: list[object] = []

    async def work(frontend: Frontend) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: trouble.append(context))
        engine.deaf = True  # the others fail by themselves, and not because they are cancelled
        task = asyncio.create_task(frontend.translate(call(model, "a", "b", "c")))
        await until(lambda: engine.running == 3)
        engine.release()
        with pytest.raises(EngineFailure, match="number of a"):
            await task
        await until(lambda: model.engine.permits.free == model.engine.permits.capacity)

    on_frontend(model, work)
    assert trouble == []


def test_engine_that_refuses_midway_fails_the_call_and_leaves_nothing() -> None:
    engine = FakeWorkers(held=True)
    engine.refuse_after = 2
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        with pytest.raises(Overloaded):
            await frontend.translate(call(model, "a\nb\nc\nd"))
        assert engine.running == 0

    on_frontend(model, work)


def test_stream_left_early_cancels_all_its_sentences() -> None:
    engine = FakeWorkers(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        async with aclosing(frontend.stream(call(model, "abc\nd\ne"))) as pieces:
            assert await anext(pieces) == "A"
            assert engine.running == 3
        assert engine.running == 0
        await until(lambda: model.engine.permits.free == model.engine.permits.capacity)

    on_frontend(model, work)


def test_stream_keeps_to_its_window() -> None:
    engine = FakeWorkers()
    model = served(engine)
    *_, result = on_frontend(model, lambda f: collect(f.stream(call(model, "\n".join("abcdefghij")))))
    assert result.hypotheses[0].text == "\n".join("ABCDEFGHIJ")
    assert engine.most_running <= LIMITS.window


def test_draining_refuses_new_calls_and_waits_for_running_ones() -> None:
    engine = FakeWorkers(held=True)
    model = served(engine)

    async def work(frontend: Frontend) -> None:
        async def answer() -> list[TextResult]:
            with frontend.counted():
                return await frontend.translate(call(model, "a"))

        running = asyncio.create_task(answer())
        await until(lambda: engine.running == 1)
        frontend.stop_accepting()
        with pytest.raises(ShuttingDown), frontend.counted():
            pass
        assert not await frontend.wait_idle(0.01)
        engine.release()
        assert await frontend.wait_idle(30)
        assert (await running)[0].hypotheses[0].text == "A"

    on_frontend(model, work)
