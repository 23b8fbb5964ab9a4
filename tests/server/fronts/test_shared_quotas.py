"""Quotas in one place: what fronts ask, and what becomes of answers that nobody waits for."""

from __future__ import annotations

import asyncio

import pytest

from dragoman_service.errors import InvalidInput, Overloaded, QuotaExceeded
from dragoman_service.server.access.tokens import Token, new_token
from dragoman_service.server.fronts import shared_quotas
from dragoman_service.server.fronts.control import Keep, Message, Returned, Take
from dragoman_service.server.fronts.shared_quotas import AskedQuotas, QuotaDesk


def token(**rights: int) -> Token:
    return new_token("shop", scopes=("translate",), **rights)[1]


class Front:
    """A front whose messages are handled when the test says so."""

    def __init__(self, desk: QuotaDesk, name: str) -> None:
        self.desk, self.name = desk, name
        self.sent: list[Message] = []
        self.quotas = AskedQuotas(self.sent.append)

    def deliver(self) -> None:
        sent, self.sent[:] = list(self.sent), []
        for message in sent:
            if isinstance(message, Take):
                self.quotas.taken(self.desk.take(self.name, message))
            elif isinstance(message, Returned):
                self.desk.returned(self.name, message)
            elif isinstance(message, Keep):
                self.desk.keep(self.name, message)

    async def take(self, which: Token, characters: int = 1):  # type: ignore[no-untyped-def]
        taking = asyncio.create_task(self.quotas.take(which, characters))
        await asyncio.sleep(0)
        self.deliver()
        return await taking


def test_all_fronts_have_one_quota() -> None:
    async def work() -> None:
        desk = QuotaDesk()
        one, two = Front(desk, "front 1"), Front(desk, "front 2")
        which = token(concurrent=2)
        first, _ = await one.take(which), await two.take(which)
        for front in (one, two):
            with pytest.raises(QuotaExceeded, match="2 calls running"):
                await front.take(which)
        first.end()
        one.deliver()
        await two.take(which)

    asyncio.run(work())


def test_what_a_call_did_not_use_comes_back_and_errors_arrive_whole() -> None:
    async def work() -> None:
        front = Front(QuotaDesk(), "front 1")
        which = token(characters_per_minute=10)
        lease = await front.take(which, 10)
        with pytest.raises(QuotaExceeded) as refused:
            await front.take(which, 10)
        assert refused.value.retry_after > 50
        with pytest.raises(InvalidInput, match="characters"):
            await front.take(which, 11)
        lease.give_back()
        front.deliver()
        await front.take(which, 10)

    asyncio.run(work())


def test_leases_of_a_front_that_dies_end() -> None:
    async def work() -> None:
        desk = QuotaDesk()
        one, two = Front(desk, "front 1"), Front(desk, "front 2")
        which = token(concurrent=1)
        await one.take(which)
        desk.gone("front 1")
        await two.take(which)

    asyncio.run(work())


def test_an_answer_that_comes_too_late_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_quotas, "ANSWER_SECONDS", 0.01)

    async def work() -> None:
        front = Front(QuotaDesk(), "front 1")
        which = token(concurrent=1)
        with pytest.raises(Overloaded, match="at the moment"):
            await front.quotas.take(which, 1)
        front.deliver()
        front.deliver()
        await front.take(which)

    asyncio.run(work())


@pytest.mark.parametrize("answered_first", [False, True])
def test_a_caller_who_leaves_while_asking_takes_nothing(answered_first: bool) -> None:
    async def work() -> None:
        front = Front(QuotaDesk(), "front 1")
        which = token(concurrent=1)
        asking = asyncio.create_task(front.quotas.take(which, 1))
        await asyncio.sleep(0)
        if answered_first:
            front.deliver()
        asking.cancel()
        await asyncio.wait([asking])
        front.deliver()
        front.deliver()
        await front.take(which)

    asyncio.run(work())


def test_a_token_is_forgotten_once_no_front_knows_it() -> None:
    async def work() -> None:
        desk = QuotaDesk()
        one, two = Front(desk, "front 1"), Front(desk, "front 2")
        which = token(requests_per_minute=1)
        one.quotas.keep([which])
        one.deliver()
        await one.take(which)
        two.quotas.keep([])  # it has not read the file yet
        two.deliver()
        with pytest.raises(QuotaExceeded):
            await one.take(which)
        one.quotas.keep([])
        one.deliver()
        await one.take(which)

    asyncio.run(work())
