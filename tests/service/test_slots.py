"""Rows of the running batch: taken, given back, and closed up."""

from __future__ import annotations

import pytest

from dragoman_service.engine.slots import SlotError, SlotPool


def test_rows_are_given_from_the_lowest_up() -> None:
    pool = SlotPool(4)
    assert pool.acquire(10, 2) == [0, 1]
    assert pool.acquire(11, 1) == [2]
    assert (pool.num_used, pool.num_free, pool.extent) == (3, 1, 3)


def test_holes_are_filled_before_the_extent_grows() -> None:
    pool = SlotPool(6)
    for owner in range(4):
        pool.acquire(owner, 1)
    pool.release(2)
    pool.release(0)
    assert pool.holes == (0, 2)
    assert pool.acquire(9, 3) == [0, 2, 4]
    assert pool.compact() == []


def test_compaction_moves_the_last_rows_into_the_holes() -> None:
    pool = SlotPool(6)
    pool.acquire(1, 2)
    pool.acquire(2, 1)
    pool.acquire(3, 2)
    pool.release(1)
    assert sorted(pool.compact()) == [(3, 3, 1), (3, 4, 0)]
    assert sorted(pool.rows(3)) == [0, 1]
    assert pool.rows(2) == [2]
    assert (pool.extent, pool.holes) == (3, ())


def test_compaction_keeps_the_owner_s_own_numbering() -> None:
    pool = SlotPool(3)
    pool.acquire(1, 1)
    pool.acquire(2, 2)
    pool.release(1)
    pool.compact()
    assert pool.rows(2) == [1, 0]


def test_holes_at_the_end_cost_no_move() -> None:
    pool = SlotPool(4)
    pool.acquire(1, 1)
    pool.acquire(2, 3)
    pool.release(2)
    assert pool.compact() == []
    assert pool.extent == 1


def test_an_empty_pool_compacts_to_nothing() -> None:
    pool = SlotPool(2)
    pool.acquire(1, 2)
    pool.release(1)
    assert pool.compact() == []
    assert (pool.extent, pool.num_free) == (0, 2)


@pytest.mark.parametrize("count", [0, 3])
def test_only_free_rows_are_given(count: int) -> None:
    with pytest.raises(SlotError, match="2 are free"):
        SlotPool(2).acquire(1, count)


def test_rows_are_owned_once_and_given_back_once() -> None:
    pool = SlotPool(4)
    pool.acquire(1, 1)
    with pytest.raises(SlotError, match="already"):
        pool.acquire(1, 1)
    pool.release(1)
    with pytest.raises(SlotError, match="owns no rows"):
        pool.release(1)


def test_a_pool_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="max_rows: got 0"):
        SlotPool(0)
