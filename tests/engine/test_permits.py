"""Admission: permits of clients and calls, source tokens, and `retry_after`."""

from __future__ import annotations

import random

import pytest

from dragoman_service.engine.permits import SHARE, Grant, Permits
from dragoman_service.errors import Overloaded

PLENTY = 10**9


def refusal(permits: Permits, client: str = "") -> Overloaded:
    with pytest.raises(Overloaded) as caught:
        permits.take(1, client)
    return caught.value


# --- a client's part


@pytest.mark.parametrize(("capacity", "most"), [(1, 1), (2, 1), (5, 4), (10, 8), (100, 80), (1024, 819)])
def test_a_client_alone_has_four_fifths(capacity: int, most: int) -> None:
    permits = Permits(capacity, PLENTY)
    assert permits.take(PLENTY, "a").count == most
    assert permits.free == capacity - most


def test_of_two_clients_that_want_all_each_comes_to_four_ninths() -> None:
    rng = random.Random(0)
    permits = Permits(900, PLENTY)
    grants = {client: [permits.take(1, client)] for client in "ab"}

    def take_all(client: str) -> None:
        try:
            while True:
                grants[client].append(permits.take(1, client))
        except Overloaded:
            pass

    take_all("a")
    take_all("b")
    assert len(grants["a"]) == 719  # who came first has more at first
    for _ in range(5000):
        client = rng.choice("ab")
        grants[client].pop().expect(0)
        take_all(rng.choice("ab"))
    assert all(len(held) in range(395, 406) for held in grants.values())


def test_what_a_client_has_is_at_most_four_times_what_is_left() -> None:
    permits = Permits(100, PLENTY)
    taken = 0
    while True:
        try:
            taken += permits.take(1, "a").count
        except Overloaded:
            break
        assert taken <= SHARE * permits.free
    assert (taken, permits.free) == (80, 20)


def test_a_client_refused_is_told_that_the_rest_is_for_others_who_get_it() -> None:
    permits = Permits(10, PLENTY)
    permits.take(PLENTY, "greedy")
    assert "8 sentences of this client are waiting or running; the rest is for others" in str(
        refusal(permits, "greedy")
    )
    assert permits.take(PLENTY, "modest").count == 1
    assert permits.take(PLENTY, "third").count == 1
    assert "the queue is full: 10 sentences are waiting or running" in str(refusal(permits, "fourth"))


def test_who_has_none_gets_one_as_long_as_there_is_one() -> None:
    permits = Permits(10, PLENTY)
    grants = [permits.take(PLENTY, f"client {n}") for n in range(3)]
    assert [grant.count for grant in grants] == [8, 1, 1]


def test_calls_of_one_client_share_its_part() -> None:
    permits = Permits(100, PLENTY)
    assert [permits.take(50, "a").count for _ in range(4)] == [50, 7, 5, 4]


def test_calls_of_one_client_find_a_place_beside_its_others() -> None:
    """Twenty calls of a hundred sentences each, on an idle server of the default size, with the default window."""
    permits = Permits(1024, PLENTY)
    grants = [permits.take(64, "a") for _ in range(20)]
    assert all(grant.count >= 1 for grant in grants)
    assert grants[0].count == 64


def test_a_call_widens_as_others_end() -> None:
    permits = Permits(100, PLENTY)
    first, second = permits.take(64, "a"), permits.take(64, "a")
    assert (first.count, second.count) == (64, 4)
    first.expect(0)
    for _ in range(40):
        second.enter(1)
        second.leave(1)
    assert second.count > 20


def test_a_call_narrows_while_others_find_no_place() -> None:
    permits = Permits(100, PLENTY)
    big = permits.take(80, "a")
    assert big.count == 80
    big.expect(1000)
    for _ in range(80):
        big.enter(1)
    refusal(permits, "a")
    for _ in range(5):  # sentences end, and their places are left to others
        big.leave(1)
    assert big.count == 79
    small = permits.take(64, "a")
    assert small.count == 1


def test_a_call_takes_no_more_than_it_asks_for() -> None:
    permits = Permits(100, PLENTY)
    assert permits.take(3, "a").count == 3
    assert permits.free == 97


# --- tokens


def test_beyond_the_tokens_allowed_no_call_begins() -> None:
    permits = Permits(100, 50)
    grant = permits.take(10, "a")
    grant.enter(49)
    permits.take(1, "b").expect(0)
    grant.enter(1)
    assert "the queue is full: 50 source tokens are waiting or running" in str(refusal(permits, "b"))
    grant.leave(1)
    permits.take(1, "b").expect(0)
    grant.leave(49)


def test_beyond_the_tokens_allowed_no_sentence_enters_but_the_only_one_of_a_call() -> None:
    permits = Permits(100, 50)
    long, short = permits.take(10, "a"), permits.take(10, "b")
    assert long.fits(1000)
    long.enter(45)
    assert long.fits(5)
    assert not long.fits(6)
    assert short.fits(1000)
    short.enter(1000)
    assert not short.fits(1)
    assert not long.fits(1)
    long.leave(45)
    assert long.fits(1000)
    short.leave(1000)
    assert permits.tokens == 0


def test_a_call_has_no_more_sentences_in_the_engine_than_permits() -> None:
    permits = Permits(10, PLENTY)
    grant = permits.take(2, "a")
    grant.expect(5)
    for _ in range(2):
        assert grant.fits(1)
        grant.enter(1)
    assert not grant.fits(1)
    grant.leave(1)
    assert grant.fits(1)


# --- giving back


def test_permits_not_needed_are_given_back_at_once() -> None:
    permits = Permits(10, PLENTY)
    grant = permits.take(8, "a")
    grant.expect(3)
    assert (grant.count, permits.free) == (3, 7)
    grant.expect(100)
    assert (grant.count, permits.free) == (3, 7)


def test_permits_are_given_back_as_fewer_sentences_remain() -> None:
    permits = Permits(10, PLENTY)
    grant = permits.take(3, "a")
    grant.expect(5)
    for _ in range(3):
        grant.enter(1)
    free = []
    for _ in range(2):
        grant.leave(1)
        grant.enter(1)
        free.append(permits.free)
    for _ in range(3):
        grant.leave(1)
        free.append(permits.free)
    assert free == [7, 7, 8, 9, 10]
    assert permits.idle


def test_a_call_that_ends_before_its_sentences_keeps_their_permits_until_the_engine_is_done() -> None:
    permits = Permits(10, PLENTY)
    grant = permits.take(5, "a")
    grant.expect(5)
    grant.enter(7)
    grant.enter(7)
    grant.expect(0)
    assert (permits.free, permits.tokens, permits.idle) == (8, 14, False)
    grant.leave(7)
    grant.leave(7)
    assert (permits.free, permits.tokens, permits.idle) == (10, 0, True)


@pytest.mark.parametrize("seed", range(5))
def test_whatever_happens_everything_comes_back(seed: int) -> None:
    rng = random.Random(seed)
    permits = Permits(40, 200)
    grants: list[tuple[Grant, str, list[int]]] = []
    for _ in range(3000):
        what = rng.randrange(5)
        if what == 0:
            client = rng.choice("abc")
            try:
                grant = permits.take(rng.randint(1, 30), client)
            except Overloaded:
                continue
            grants.append((grant, client, []))
            grant.expect(rng.randint(0, 30))
        elif grants:
            grant, _, inside = rng.choice(grants)
            tokens = rng.randint(1, 30)
            if what in (1, 2) and grant.count and grant.fits(tokens):
                grant.enter(tokens)
                inside.append(tokens)
            elif what == 3 and inside:
                grant.leave(inside.pop(rng.randrange(len(inside))))
            elif what == 4:
                grant.expect(0)
                assert grant.count == len(inside)
        assert permits.tokens == sum(sum(inside) for _, _, inside in grants)
        assert permits.free == permits.capacity - sum(grant.count for grant, _, _ in grants)
        assert all(len(inside) <= grant.count for grant, _, inside in grants)
        for name in "abc":
            assert permits._held[name] == sum(grant.count for grant, client, _ in grants if client == name)
    for grant, _, inside in grants:
        for tokens in inside:
            grant.leave(tokens)
        grant.expect(0)
    assert permits.idle
    assert permits.tokens == 0


# --- when to come again


@pytest.mark.parametrize(
    ("backlog", "retry_after"), [(8.0, 4.0), (0.5, 0.25), (0.01, 0.1), (1000.0, 30.0), (60.0, 30.0), (0.0, 1.0)]
)
def test_it_is_worth_coming_again_when_half_of_what_is_there_is_done(backlog: float, retry_after: float) -> None:
    permits = Permits(1, PLENTY, backlog_seconds=lambda: backlog)
    permits.take(1, "a")
    assert refusal(permits, "b").retry_after == pytest.approx(retry_after)


def test_every_refusal_says_when_to_come_again() -> None:
    permits = Permits(10, 5, backlog_seconds=lambda: 6.0)
    grant = permits.take(PLENTY, "a")
    refusals = [refusal(permits, "a")]
    grant.enter(5)
    refusals.append(refusal(permits, "b"))
    assert [error.retry_after for error in refusals] == [3.0, 3.0]


def test_without_a_backlog_known_it_is_a_second() -> None:
    permits = Permits(1, PLENTY)
    permits.take(1, "a")
    assert refusal(permits, "b").retry_after == 1.0
