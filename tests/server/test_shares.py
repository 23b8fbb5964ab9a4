from __future__ import annotations

import random
from collections import Counter

import pytest

from dragoman_service.server.shares import SHARE, Shares


def test_one_client_leaves_something_for_the_next() -> None:
    shares = Shares(100)
    taken = sum(shares.take("a", 1) for _ in range(100))
    assert taken == 80
    assert shares.take("b", 4)
    assert not shares.take("a", 1)


def test_the_first_part_of_a_client_may_be_all_that_is_free() -> None:
    shares = Shares(10)
    assert shares.take("a", 10)
    assert not shares.take("b", 1)
    shares.give_back("a", 10)
    assert shares.take("b", 1)


def test_what_is_refused_changes_nothing() -> None:
    shares = Shares(10)
    assert not shares.take("a", 11)
    assert shares.free == 10
    assert shares.take("a", 8)
    assert not shares.take("a", 1)
    shares.give_back("a", 8)
    assert shares.free == 10


@pytest.mark.parametrize("seed", range(5))
def test_no_more_is_given_than_there_is(seed: int) -> None:
    rng, shares, held = random.Random(seed), Shares(1000), Counter[str]()
    for _ in range(5000):
        client = rng.choice("abcdefgh")
        if rng.random() < 0.5:
            amount = rng.randint(1, 60)
            free, first = shares.free, not held[client]
            if shares.take(client, amount):
                held[client] += amount
                assert first or held[client] <= SHARE * shares.free
            else:
                assert amount > free or held[client] + amount > SHARE * (free - amount)
        elif held[client]:
            amount = rng.randint(1, held[client])
            shares.give_back(client, amount)
            held[client] -= amount
        assert shares.free == 1000 - held.total() >= 0
