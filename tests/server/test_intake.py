from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import grpc
import pytest

from dragoman_service.errors import InvalidInput, Overloaded
from dragoman_service.server import intake as module
from dragoman_service.server.intake import BYTES_PER_BYTE, CALL_BYTES, Intake, IntakeSettings, Places

SETTINGS = IntakeSettings(max_calls=10, max_message_mib=1, message_memory_mib=4, call_memory_mib=16)


class Caller:
    """The context of a call whose message comes when the test says so."""

    def __init__(self) -> None:
        self.message: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.is_read = False

    async def read(self) -> Any:
        self.is_read = True
        return await self.message


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 30))


async def read(intake: Intake, caller: Caller, client: str) -> bytes | None:
    return await intake.read(caller, intake.admit(client))


def start(intake: Intake, client: str, count: int) -> tuple[list[Caller], list[asyncio.Task[bytes | None]]]:
    callers = [Caller() for _ in range(count)]
    return callers, [asyncio.create_task(read(intake, caller, client)) for caller in callers]


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


def test_a_message_is_read_and_its_memory_is_given_back() -> None:
    async def test() -> None:
        intake, caller = Intake(SETTINGS), Caller()
        caller.message.set_result(b"abc")

        async def call() -> None:
            memory = intake.admit("a")
            assert await intake.read(caller, memory) == b"abc"
            assert memory.amount == CALL_BYTES + 3 * BYTES_PER_BYTE

        await asyncio.create_task(call())
        await settle()
        assert intake._memory.free == intake._memory.capacity
        assert intake._calls.free == intake._calls.capacity
        caller = Caller()
        caller.message.set_result(grpc.aio.EOF)
        assert await read(intake, caller, "a") is None

    run(test())


def test_one_client_does_not_have_all_calls() -> None:
    async def test() -> None:
        intake = Intake(SETTINGS)
        _, tasks = start(intake, "a", 10)
        await settle()
        refused = [task for task in tasks if task.done()]
        assert len(refused) == 2
        for task in refused:
            assert isinstance(task.exception(), Overloaded)
        (caller,), _ = start(intake, "b", 1)
        await settle()
        assert caller.is_read
        for task in tasks:
            task.cancel()

    run(test())


def test_callers_wait_for_a_place_in_turn() -> None:
    async def test() -> None:
        intake = Intake(IntakeSettings(max_calls=100, max_message_mib=1, message_memory_mib=4, call_memory_mib=16))
        many, _ = start(intake, "a", 8)
        few, tasks = start(intake, "b", 2)
        await settle()
        assert sum(caller.is_read for caller in many) + sum(caller.is_read for caller in few) == 2
        many[0].message.set_result(b"")
        await settle()
        assert few[0].is_read
        few[0].message.set_result(b"x")
        await settle()
        assert tasks[0].result() == b"x"

    run(test())


def test_a_slow_message_makes_way_for_quick_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK_SECONDS", 0.05)

    async def test() -> None:
        intake = Intake(SETTINGS)
        slow, tasks = start(intake, "a", 2)
        await asyncio.sleep(0.2)
        quick = Caller()
        quick.message.set_result(b"quick")
        assert await read(intake, quick, "b") == b"quick"
        assert [task.done() for task in tasks] == [False, True]  # of two slow places, one client may have one
        slow[0].message.set_result(b"slow")
        assert await tasks[0] == b"slow"
        assert intake._quick._shares.free == intake._quick._shares.capacity

    run(test())


def test_too_many_slow_messages_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK_SECONDS", 0.02)

    async def test() -> None:
        intake = Intake(SETTINGS)
        _, tasks = start(intake, "a", 6)
        await asyncio.sleep(0.5)
        failed = [task for task in tasks if task.done()]
        assert len(failed) == 5
        for task in failed:
            with pytest.raises(Overloaded, match="arrives slowly"):
                await task
        honest, (task,) = start(intake, "b", 1)
        await asyncio.sleep(0.1)
        assert not task.done(), "a slow client has a share beside another one"
        honest[0].message.set_result(b"slow but honest")
        assert await task == b"slow but honest"

    run(test())


def test_of_many_calls_of_one_address_the_newest_is_read_first(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        intake = Intake(IntakeSettings(max_calls=1000, max_message_mib=1, message_memory_mib=4, call_memory_mib=16))
        start(intake, "a", 300)
        await settle()
        honest, (task,) = start(intake, "a", 1)
        honest[0].message.set_result(b"sent at once")
        assert await asyncio.wait_for(task, 1) == b"sent at once"

    run(test())


def test_a_message_that_does_not_arrive_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUICK_SECONDS", 0.02)
    monkeypatch.setattr(module, "READ_SECONDS", 0.1)

    async def test() -> None:
        intake = Intake(SETTINGS)
        with pytest.raises(InvalidInput, match="did not arrive"):
            await read(intake, Caller(), "a")
        assert intake._slow.free == intake._slow.capacity

    run(test())


def test_a_caller_that_leaves_gives_everything_back() -> None:
    async def test() -> None:
        intake = Intake(SETTINGS)
        _, tasks = start(intake, "a", 8)
        await settle()
        for task in tasks:
            task.cancel()
        await settle()
        assert all(task.cancelled() for task in tasks)
        assert intake._quick._shares.free == intake._quick._shares.capacity
        assert not intake._quick._waiting
        assert intake._calls.free == intake._calls.capacity

    run(test())


def test_a_turn_that_comes_as_its_caller_leaves_is_passed_on() -> None:
    async def test() -> None:
        places = Places(1)
        await places.take("a")
        first, second = asyncio.create_task(places.take("b")), asyncio.create_task(places.take("c"))
        await settle()
        places.give_back("a")
        first.cancel()
        await settle()
        assert second.done()

    run(test())


def test_the_place_of_a_long_message_is_kept_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BYTES_PER_SECOND", 1_000_000)

    async def test() -> None:
        intake, caller = Intake(SETTINGS), Caller()
        caller.message.set_result(bytes(100_000))
        started = asyncio.get_running_loop().time()
        await read(intake, caller, "a")
        assert intake._quick._shares.free == 1
        while intake._quick._shares.free == 1:
            await asyncio.sleep(0.001)
        assert asyncio.get_running_loop().time() - started >= 0.1

    run(test())


def test_memory_of_all_calls_is_limited_and_shared() -> None:
    async def test() -> None:
        intake = Intake(SETTINGS)

        async def calls() -> None:
            one, other = intake.admit("a"), intake.admit("b")
            one.add(12 << 20)
            with pytest.raises(Overloaded, match="16 MiB"):
                one.add(2 << 20)
            other.add(2 << 20)

        await asyncio.create_task(calls())
        await settle()
        assert intake._memory.free == 16 << 20

    run(test())


@pytest.mark.parametrize(
    "settings",
    [{"max_calls": 0}, {"max_message_mib": 0}, {"message_memory_mib": 7}, {"call_memory_mib": 1}],
)
def test_settings_that_are_not_allowed(settings: dict[str, int]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(settings))):
        IntakeSettings(**settings)
