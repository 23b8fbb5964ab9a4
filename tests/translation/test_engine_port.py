"""A port: answers reach their calls whatever happens in others, and calls end when the engine is gone."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import pytest

from dragoman_service.engine.engine import Connection, Engine
from dragoman_service.engine.lane import Lane
from dragoman_service.engine.lanes import Lanes
from dragoman_service.engine.messages import Answer, Lost
from dragoman_service.engine.request import Event, Failed, Request
from dragoman_service.errors import DeadlineUnreachable, EngineFailure, Overloaded, ShuttingDown
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.translation.engine_port import EnginePort
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.prepare import Sender
from dragoman_service.translation.settings import RequestLimits
from support.builders import make_request, make_scheduler
from support.fake_runner import FakeRunner
from support.fake_workers import FIRST, FakeWorkers, served, shout
from support.frontends import LIMITS, call, on_frontend, until


def on_loop(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


def make_engine(workers: FakeWorkers) -> Engine:
    return Engine(workers, max_queue=1000, max_queue_tokens=10**6)


def some(port: EnginePort, count: int) -> Iterator[Request]:
    return (make_request(port.new_id(), source=(42, 2)) for _ in range(count))


def none_after_two(port: EnginePort) -> Iterator[Request]:
    yield from some(port, 2)
    raise KeyError("no more")


@pytest.mark.parametrize("kind", ["all", "stream"])
def test_a_bug_in_one_call_costs_no_other_call_its_answers(kind: str) -> None:
    workers = FakeWorkers(held=True)
    engine = make_engine(workers)

    async def read(port: EnginePort) -> None:
        async with port.call("a", 1) as bad:
            bad.expect(3, 0, None)
            if kind == "all":
                await bad.finish_all(none_after_two(port))
            stream = bad.stream(none_after_two(port))
            while True:
                async for _ in stream.next_request():
                    pass

    async def work() -> None:
        port = EnginePort(engine)
        failing = asyncio.create_task(read(port))
        async with port.call("b", 4) as good:
            good.expect(4, 0, None)
            others = asyncio.create_task(good.finish_all(some(port, 4)))
            await until(lambda: workers.running >= 4)
            workers.release()
            with pytest.raises(KeyError, match="no more"):
                await failing
            assert len(await others) == 4
        await until(lambda: engine.idle)

    on_loop(work)
    engine.close()


def test_failures_that_come_while_requests_are_sent_do_not_nest(caplog: pytest.LogCaptureFixture) -> None:
    lanes = Lanes([Lane(make_scheduler(), FakeRunner(8)) for _ in range(2)])
    lanes.start()
    lanes.close()
    engine = Engine(lanes, max_queue=10_000, max_queue_tokens=10**6)

    async def work() -> None:
        port = EnginePort(engine)
        for _ in range(4):
            async with port.call("", 2000) as stream_call:
                stream_call.expect(2000, 0, None)
                stream = stream_call.stream(some(port, 2000))
                with pytest.raises((ShuttingDown, EngineFailure)):
                    async for _ in stream.next_request():
                        pass
            async with port.call("", 2000) as whole_call:
                whole_call.expect(2000, 0, None)
                with pytest.raises((ShuttingDown, EngineFailure)):
                    await whole_call.finish_all(some(port, 2000))
        assert engine.idle

    with caplog.at_level(logging.ERROR):
        on_loop(work)
    assert not caplog.records


def test_a_stream_submits_no_more_once_a_request_has_failed() -> None:
    def fail(request: Request) -> list[Event]:
        return [Failed(request.id, EngineFailure("no"))]

    workers = FakeWorkers(fail)
    engine = make_engine(workers)

    async def work() -> None:
        port = EnginePort(engine)
        async with port.call("", 2) as stream_call:
            stream_call.expect(100, 0, None)
            stream = stream_call.stream(some(port, 100))
            await until(lambda: workers.running == 0)
            await asyncio.sleep(0.05)
            with pytest.raises(EngineFailure, match="no"):
                async for _ in stream.next_request():
                    pass
        assert len(workers.submitted) == 2

    on_loop(work)
    engine.close()


async def _read_into(pieces: list[Any], stream: AsyncIterator[Any]) -> None:
    async for piece in stream:
        pieces.append(piece)


def test_a_deadline_that_cannot_be_met_ends_a_stream_before_its_first_piece() -> None:
    workers = FakeWorkers()
    workers.seconds_per_token = 1e6
    model = served(workers)
    pieces: list[Any] = []

    async def work(frontend: Frontend) -> None:
        sender = Sender(deadline=frontend.clock() + 1)
        async with aclosing(frontend.stream(call(model, "  \n***\nhello", sender=sender))) as stream:
            with pytest.raises(DeadlineUnreachable):
                await _read_into(pieces, stream)

    on_frontend(model, work)
    assert pieces == []


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("late_one", ["a", "c"])
def test_an_error_says_whether_sentences_had_been_translated_before(stream: bool, late_one: str) -> None:
    """They count in the quotas of tokens: a stream has sent them."""

    def late(request: Request) -> list[Event]:
        is_late = request.source[0] == FIRST + ord(late_one)
        return [Failed(request.id, DeadlineUnreachable("late"))] if is_late else shout(request)

    model = served(FakeWorkers(late))

    async def work(frontend: Frontend) -> None:
        whole = call(model, "a\nb\nc")
        with pytest.raises(DeadlineUnreachable) as caught:
            await (_read_into([], frontend.stream(whole)) if stream else frontend.translate(whole))
        assert caught.value.after_work is (late_one == "c")

    on_frontend(model, work, replace(LIMITS, window=1))


class Full:
    """The memory of a call for which nothing is left."""

    def add(self, amount: int) -> None:
        raise Overloaded("full")


def test_translations_that_need_too_much_memory_have_been_work() -> None:
    engine = make_engine(FakeWorkers())

    async def work() -> None:
        async with EnginePort(engine).call("", 1, Full()) as whole_call:
            whole_call.expect(1, 0, None)
            with pytest.raises(Overloaded) as caught:
                await whole_call.finish_all(some(whole_call._port, 1))
            assert caught.value.after_work

    on_loop(work)
    engine.close()


def test_the_engine_is_told_of_the_tokens_that_it_will_be_sent() -> None:
    workers = FakeWorkers()
    told: list[int] = []
    workers.check_time = lambda work, seconds: told.append(work)  # type: ignore[method-assign]
    model = served(workers)

    async def work(frontend: Frontend) -> None:
        await frontend.translate(call(model, "abc\nde", sender=Sender(deadline=frontend.clock() + 1)))

    on_frontend(model, work)
    assert told == [sum(len(request.source) for request in workers.submitted)] == [4 + 3]


class Replaced:
    """An engine behind connections that are lost when the test says so."""

    remote = False

    def __init__(self) -> None:
        self.engine = make_engine(FakeWorkers())
        self.callbacks: list[Callable[[Sequence[Answer]], None]] = []

    def connect(self, on_answers: Callable[[Sequence[Answer]], None]) -> Connection:
        self.callbacks.append(on_answers)
        return self.engine.connect(on_answers)

    def lose(self) -> None:
        thread = threading.Thread(target=self.callbacks[-1], args=([Lost(EngineFailure("lost"))],))
        thread.start()
        thread.join()

    def close(self) -> None:
        self.engine.close()


def test_a_lost_connection_is_replaced_at_the_next_call() -> None:
    engine = Replaced()
    description = served(FakeWorkers()).description
    model = ServedModel(description, served(FakeWorkers()).tokenizer, engine)  # type: ignore[arg-type]

    async def lose_between(frontend: Frontend) -> None:
        await frontend.translate(call(model, "a"))
        engine.lose()
        await asyncio.sleep(0)  # the loop is woken for it
        (result,) = await frontend.translate(call(model, "a"))
        assert result.hypotheses[0].text == "A"
        assert len(engine.callbacks) == 2

    on_frontend(model, lose_between)


def test_closing_a_frontend_fails_what_waits_and_leaves_nothing_in_the_engine() -> None:
    workers = FakeWorkers(held=True)
    model = served(workers)

    async def work() -> None:
        frontend = Frontend(ModelRegistry([model]), RequestLimits())
        waiting = asyncio.create_task(frontend.translate(call(model, "a")))
        await until(lambda: workers.running == 1)
        frontend.close()
        with pytest.raises(EngineFailure, match="closed"):
            await waiting
        await until(lambda: model.engine.idle)

    on_loop(work)
    model.engine.close()
