"""Rows of the running batch: taking, freeing, and closing of holes."""

from __future__ import annotations

import pytest

from dragoman_service.engine.active_request import Waiting
from dragoman_service.engine.batch import Batch
from dragoman_service.engine.request import Sampling
from support.builders import make_request
from support.fake_runner import BEGIN, END


def batch_with(max_rows: int, **rows: int) -> Batch:
    """Make a batch of requests, given as the number of rows of each: `r1=2` is request 1 with two rows."""
    batch = Batch(max_rows, begin_id=BEGIN, end_id=END)
    for name, count in rows.items():
        join(batch, int(name[1:]), count)
    return batch


def join(batch: Batch, request_id: int, count: int) -> list[int]:
    return list(batch.join(Waiting(make_request(request_id, beam_size=count), 0.0)).rows)


def moves(batch: Batch) -> list[tuple[int, int]]:
    return [(copy.source, copy.target) for copy in batch.close_holes()]


def test_rows_are_given_from_the_lowest_up() -> None:
    batch = batch_with(4)
    assert join(batch, 10, 2) == [0, 1]
    assert join(batch, 11, 1) == [2]
    assert (batch.num_used, batch.num_free, batch.extent) == (3, 1, 3)


def test_holes_are_filled_before_the_extent_grows() -> None:
    batch = batch_with(6, r0=1, r1=1, r2=1, r3=1)
    batch.leave(2)
    batch.leave(0)
    assert batch.holes == (0, 2)
    assert join(batch, 9, 3) == [0, 2, 4]
    assert moves(batch) == []


def test_the_last_rows_move_into_the_holes_with_all_that_is_known_of_them() -> None:
    batch = batch_with(6, r1=2, r2=1, r3=2)
    batch.tokens[:5] = [1, 1, 7, 8, 9]
    batch.positions[:5] = [4, 4, 5, 6, 6]
    batch.source_lengths[:5] = [2, 2, 3, 4, 4]
    batch.leave(1)
    copies = batch.close_holes()
    assert [(copy.source, copy.target, copy.length, copy.cross) for copy in copies] == [(4, 0, 6, 4), (3, 1, 6, 4)]
    assert batch.active[3].rows == [1, 0]  # in the order of the request's own numbering
    assert batch.active[2].rows == [2]
    assert (batch.extent, batch.holes) == (3, ())
    assert batch.tokens[:3].tolist() == [9, 8, 7]
    assert batch.positions[:3].tolist() == [6, 6, 5]
    assert batch.source_lengths[:3].tolist() == [4, 4, 3]


def test_a_thread_that_asks_while_rows_move_hears_of_no_fewer_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_with(8, r0=3, r3=1, r4=3, r7=1)
    used: list[int] = []
    monkeypatch.setattr(batch, "_move", lambda row, hole: used.append(batch.num_used))
    batch.leave(0)
    batch.leave(4)
    batch.close_holes()
    assert used
    assert all(2 <= each <= 8 for each in used)
    assert batch.num_used == 2


def test_the_order_of_equal_samples_does_not_depend_on_where_their_rows_lie() -> None:
    batch = batch_with(4, r1=2)
    samples = make_request(2, max_length=1, num_hypotheses=2, sampling=Sampling(top_k=1, seed=0))
    batch.join(Waiting(samples, 0.0))
    active = batch.active[2]
    batch.leave(1)
    batch.close_holes()
    assert active.rows == [1, 0]
    batch.advance([[8], [7]], [[-1.0], [-1.0]])
    batch.advance([[9], [9]], [[-1.0], [-1.0]])
    assert [hypothesis.tokens for hypothesis in active.hypotheses()] == [(7,), (8,)]


def test_holes_at_the_end_cost_no_move() -> None:
    batch = batch_with(4, r1=1, r2=3)
    batch.leave(2)
    assert moves(batch) == []
    assert batch.extent == 1


def test_an_empty_batch_has_nothing_to_move() -> None:
    batch = batch_with(2, r1=2)
    batch.leave(1)
    assert moves(batch) == []
    assert (batch.extent, batch.num_free) == (0, 2)


def test_only_free_rows_are_given() -> None:
    with pytest.raises(ValueError, match="3 rows are wanted, 2 are free"):
        join(batch_with(2), 1, 3)


def test_a_batch_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="max_rows: got 0"):
        batch_with(0)
