from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from dragoman_service.translation.text_worker import SLICE_SECONDS, Steps, TextWorker, run_inline
from support.waiting import wait_until


def counting(number: int, seen: list[int], seconds: float = 0.0) -> Steps[int]:
    for index in range(number):
        seen.append(threading.get_ident())
        time.sleep(seconds)
        yield
        assert index < number
    return number


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 60))


def test_work_is_done_on_another_thread_and_its_result_returned() -> None:
    async def test() -> None:
        worker, seen = TextWorker(), list[int]()
        assert await worker.run("a", counting(5, seen)) == 5
        assert len(set(seen)) == 1
        assert seen[0] != threading.get_ident()
        worker.close()

    run(test())


def test_inline_work_is_done_at_once() -> None:
    seen: list[int] = []
    assert run_inline(counting(3, seen)) == 3
    assert set(seen) == {threading.get_ident()}


class Panic(BaseException):
    """As Rust code raises it: not an Exception."""


@pytest.mark.parametrize("error", [ValueError("bad"), Panic("bad")])
def test_errors_reach_the_caller(error: BaseException) -> None:
    def failing() -> Steps[None]:
        yield
        raise error

    async def test() -> None:
        worker = TextWorker()
        with pytest.raises(type(error), match="bad"):
            await worker.run("a", failing())
        assert await worker.run("a", counting(1, [])) == 1
        worker.close()

    run(test())


def test_a_client_with_much_work_does_not_delay_another_one() -> None:
    async def test() -> None:
        worker = TextWorker()
        long = [asyncio.create_task(worker.run("a", counting(10**6, [], SLICE_SECONDS))) for _ in range(20)]
        await asyncio.sleep(0.05)
        assert await asyncio.wait_for(worker.run("b", counting(5, [], SLICE_SECONDS)), 5) == 5
        for task in long:
            task.cancel()
        await asyncio.gather(*long, return_exceptions=True)
        worker.close()

    run(test())


def test_cancelled_work_that_waits_for_other_work_of_its_client_is_dropped_at_once() -> None:
    """It has the texts of its call, and a caller can make calls and leave them faster than the thread takes turns."""
    closed = threading.Event()

    def begun() -> Steps[None]:
        try:
            while not closed.is_set():
                yield
        finally:
            closed.set()

    async def test() -> None:
        worker = TextWorker()
        long = asyncio.create_task(worker.run("a", begun()))
        texts = [Text() for _ in range(100)]
        left = [weakref.ref(text) for text in texts]
        waiting = [asyncio.create_task(worker.run("a", holding(text))) for text in texts]
        texts.clear()
        await asyncio.sleep(0.02)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        waiting.clear()
        gc.collect()
        assert not any(text() for text in left)
        assert not closed.is_set()
        assert await worker.run("b", counting(3, [])) == 3
        closed.set()
        await long
        await asyncio.to_thread(wait_until, lambda: not worker._jobs)
        worker.close()

    run(test())


class Text:
    """What a job keeps."""


def holding(text: Text) -> Steps[Text]:
    yield
    return text


def test_cancelled_work_is_given_up() -> None:
    closed = threading.Event()

    def endless() -> Steps[None]:
        try:
            while True:
                yield
        finally:
            closed.set()

    async def test() -> None:
        worker = TextWorker()
        task = asyncio.create_task(worker.run("a", endless()))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await worker.run("a", counting(1, [])) == 1
        assert closed.is_set()
        await asyncio.to_thread(wait_until, lambda: not worker._jobs)
        worker.close()

    run(test())
