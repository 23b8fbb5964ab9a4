"""Quotas under a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.errors import InvalidInput, Overloaded, QuotaExceeded
from dragoman_service.server.access.quotas import Bucket, Lease, LocalQuotas
from dragoman_service.server.access.tokens import Token

SECOND = 10**9
MINUTE = 60 * SECOND


@dataclass
class Clock:
    """A clock in nanoseconds."""

    now: int = 7 * MINUTE

    def __call__(self) -> int:
        return self.now


def token(**rights: Any) -> Token:
    made = Token("shop", "0" * 16, "0" * 64, ("translate",), datetime(2026, 1, 1, tzinfo=UTC))
    return replace(made, **rights)


def take(quotas: LocalQuotas, whose: Token, characters: int = 1) -> Lease:
    return asyncio.run(quotas.take(whose, characters))


def refused(quotas: LocalQuotas, whose: Token, characters: int = 1) -> QuotaExceeded:
    with pytest.raises(QuotaExceeded) as caught:
        take(quotas, whose, characters)
    return caught.value


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def quotas(clock: Clock) -> LocalQuotas:
    return LocalQuotas(clock)


def test_requests_a_minute(quotas: LocalQuotas, clock: Clock) -> None:
    whose = token(requests_per_minute=7)
    for _ in range(7):
        take(quotas, whose).end()
    error = refused(quotas, whose)
    assert str(error) == "token shop may send 7 requests a minute; in 8.572 s this fits"
    assert error.retry_after == 8.572  # 60 / 7, rounded up to milliseconds
    clock.now += MINUTE // 7  # a nanosecond too early: 60 / 7 seconds are no whole number of them
    assert refused(quotas, whose).retry_after == 0.001
    clock.now += 1
    take(quotas, whose)
    refused(quotas, whose)


def test_characters_a_minute(quotas: LocalQuotas, clock: Clock) -> None:
    whose = token(characters_per_minute=1_000)
    take(quotas, whose, 600)
    error = refused(quotas, whose, 401)
    assert str(error) == "token shop may send 1000 characters a minute; in 0.06 s this fits"
    take(quotas, whose, 400)  # what was refused took nothing
    take(quotas, whose, 0)
    assert refused(quotas, whose, 1_000).retry_after == 60
    clock.now += MINUTE - 1
    assert refused(quotas, whose, 1_000).retry_after == 0.001
    clock.now += 1
    take(quotas, whose, 1_000)


def test_a_bucket_holds_one_minute(quotas: LocalQuotas, clock: Clock) -> None:
    whose = token(requests_per_minute=2)
    clock.now += 1_000 * MINUTE
    take(quotas, whose)
    take(quotas, whose)
    assert refused(quotas, whose).retry_after == 30
    clock.now += 1_000 * MINUTE
    take(quotas, whose)
    take(quotas, whose)
    refused(quotas, whose)


def test_both_buckets_or_none(quotas: LocalQuotas, clock: Clock) -> None:
    whose = token(requests_per_minute=60, characters_per_minute=600)
    take(quotas, whose, 600)
    for _ in range(100):
        assert refused(quotas, whose, 10).retry_after == 1  # takes no request
    clock.now += SECOND
    take(quotas, whose, 10)
    for _ in range(59):
        take(quotas, whose, 0)
    assert refused(quotas, whose, 0).retry_after == 1


def test_the_longer_wait_counts(quotas: LocalQuotas) -> None:
    whose = token(requests_per_minute=1, characters_per_minute=60)
    take(quotas, whose, 2)
    error = refused(quotas, whose, 60)
    assert error.retry_after == 60
    assert "1 requests a minute" in str(error)


def test_a_call_larger_than_the_quota_can_never_fit(quotas: LocalQuotas) -> None:
    whose = token(characters_per_minute=1_000, requests_per_minute=1)
    with pytest.raises(InvalidInput) as caught:
        take(quotas, whose, 1_001)
    assert caught.value.field == "texts"
    assert str(caught.value) == (
        "texts: got '1001 characters'; allowed: at most 1000, which token shop may send in a minute; "
        "send the texts in several calls"
    )
    take(quotas, whose, 1_000)


def test_calls_at_the_same_time(quotas: LocalQuotas) -> None:
    whose = token(concurrent=2)
    first, second = take(quotas, whose), take(quotas, whose)
    error = refused(quotas, whose)
    assert str(error) == "token shop has 2 calls running, as many as it may"
    assert error.retry_after == 1
    first.end()
    third = take(quotas, whose)
    refused(quotas, whose)
    second.give_back()
    third.end()
    take(quotas, whose)
    take(quotas, whose)
    refused(quotas, whose)


def test_what_is_given_back_can_be_taken(quotas: LocalQuotas) -> None:
    whose = token(requests_per_minute=1, characters_per_minute=10)
    take(quotas, whose, 10).give_back()
    take(quotas, whose, 10).end()
    refused(quotas, whose, 1)


def test_giving_back_never_gives_more(quotas: LocalQuotas, clock: Clock) -> None:
    whose = token(requests_per_minute=2)
    lease = take(quotas, whose)
    clock.now += MINUTE
    lease.give_back()
    take(quotas, whose)
    take(quotas, whose)
    refused(quotas, whose)


def test_tokens_do_not_share(quotas: LocalQuotas) -> None:
    first, second = token(requests_per_minute=1), token(id="1" * 16, name="other", requests_per_minute=1)
    take(quotas, first)
    take(quotas, second)
    refused(quotas, first)
    refused(quotas, second)


def test_a_changed_quota_holds_at_once(quotas: LocalQuotas, clock: Clock) -> None:
    take(quotas, token(requests_per_minute=10))
    for _ in range(3):
        take(quotas, token(requests_per_minute=3))  # nine are left, and three of them are allowed at once
    assert refused(quotas, token(requests_per_minute=3)).retry_after == 20
    take(quotas, token())
    clock.now += SECOND
    for _ in range(6):
        take(quotas, token(requests_per_minute=6))  # without a quota nothing is counted, so a new one begins full
    refused(quotas, token(requests_per_minute=6))


def test_memory_is_bounded_by_the_tokens(quotas: LocalQuotas) -> None:
    tokens = [token(id=f"{number:016x}", concurrent=1) for number in range(100)]
    for whose in tokens:
        take(quotas, whose)
        take(quotas, token(id=whose.id))
    assert len(quotas) == 100
    quotas.keep(tokens[:3])
    assert len(quotas) == 3
    refused(quotas, tokens[2])


def test_a_call_of_a_forgotten_token_may_end(quotas: LocalQuotas) -> None:
    whose = token(concurrent=1, requests_per_minute=9)
    leases = [take(quotas, whose)]
    quotas.keep(())
    leases.append(take(quotas, whose))
    leases[0].end()
    refused(quotas, whose)  # the end of the forgotten call frees no place of the new record
    leases[1].give_back()
    take(quotas, whose)


def test_the_error_is_an_overload_with_a_name_of_its_own(quotas: LocalQuotas) -> None:
    take(quotas, token(concurrent=1))
    error = refused(quotas, token(concurrent=1))
    assert isinstance(error, Overloaded)
    assert error.reason == "quota_exceeded"


OPERATIONS = st.lists(
    st.tuples(st.integers(0, 3 * MINUTE) | st.integers(0, 10), st.integers(0, 12), st.booleans()), max_size=60
)


@settings(deadline=None)
@given(st.integers(1, 12) | st.integers(1, 10**12), OPERATIONS)
def test_a_bucket_is_exact(limit: int, operations: list[tuple[int, int, bool]]) -> None:
    """In any time, what passes is at most the limit and what time refills; `wait` is exact to the nanosecond."""
    now = 0
    bucket = Bucket(limit, now)
    passed: deque[tuple[int, int]] = deque()
    for pause, wanted, patient in operations:
        now += pause
        amount = min(wanted, limit)
        wait = bucket.wait(amount, now)
        if wait and patient:
            assert bucket.wait(amount, now + wait - 1) == 1
            now += wait
            assert bucket.wait(amount, now) == 0
            wait = 0
        if wait:
            continue
        bucket.take(amount)
        passed.append((now, amount))
        total = 0
        for when, some in reversed(passed):
            total += some
            assert total * MINUTE <= limit * (MINUTE + now - when)
