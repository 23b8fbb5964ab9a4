"""Beam search over arrays: the best children of many requests' hypotheses, and the rows that they go to.

A step keeps the best `beam_size` children that do not end. Each hypothesis has one child that ends, so the
`2 * beam_size` best children are enough. A child that ends finishes its hypothesis if it is among the best `beam_size`.
Of equal children, the lower row comes first, then the likelier candidate; the stable sort sees to it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Children(NamedTuple):
    """The best children of `n` requests with `B` rows each; `B` of them go on wherever there are as many."""

    token: Ints
    """[n, B], those that go on, best first; the entries from `going` on mean nothing."""
    log_prob: Floats
    """[n, B]"""
    cost: Floats
    """[n, B], minus the sum of log-probabilities from the beginning; infinity from `going` on."""
    source: Ints
    """[n, B], the parent's row within the request."""
    going: Ints
    """[n], how many go on."""
    ends: Bools
    """[n, B], by rank among all children: whether this one ends a hypothesis."""
    end_cost: Floats
    """[n, B], their costs, by the same rank."""
    end_source: Ints
    """[n, B], their parents' rows."""


class Placement(NamedTuple):
    """Where the children go."""

    target: Ints
    """[n, B], the row of each child within its request."""
    moved: Bools
    """[n, B], whether it is another one than its parent's: the parent's caches and history must be copied to it."""


def children(costs: Floats, token_ids: Ints, log_probs: npt.NDArray[Any], end_id: int) -> Children:
    """Choose among the candidates of one step.

    Args:
        costs: [n, B], minus the totals of the live hypotheses; infinity for rows without one.
        token_ids: [n, B, K], likeliest first.
        log_probs: [n, B, K]; minus infinity for candidates that are banned.
        end_id: The end of the sentence.
    """
    n, beam_size, width = log_probs.shape
    flat = (costs[:, :, None] - log_probs).reshape(n, beam_size * width)
    best = _least(flat, 2 * beam_size)
    at = best + np.arange(0, flat.size, beam_size * width)[:, None]  # into the arrays as one dimension
    token = token_ids.take(at)
    cost = flat.take(at)
    is_end = token == end_id
    first = slice(0, beam_size)
    if cost[:, min(2 * beam_size, cost.shape[1]) - 1].max() < np.inf and not np.count_nonzero(is_end):
        count = np.full(n, beam_size)
        going_at, going_cost, token = at[:, first], cost[:, first], token[:, first]
    else:
        possible = cost < np.inf
        going = possible & ~is_end
        is_end &= possible
        order = _least(~going, beam_size) + np.arange(0, at.size, at.shape[1])[:, None]
        count = np.minimum(going.sum(axis=1), beam_size)
        going_at, going_cost, token = at.take(order), cost.take(order), token.take(order)
        going_cost[np.arange(beam_size) >= count[:, None]] = np.inf
    row = at // width % beam_size
    return Children(
        token=token,
        log_prob=log_probs.take(going_at).astype(np.float64),
        cost=going_cost,
        source=going_at // width % beam_size,
        going=count,
        ends=is_end[:, first],
        end_cost=cost[:, first],
        end_source=row[:, first],
    )


class Full(NamedTuple):
    """The children of one step where every request has `B` that go on, all arrays [n * B], best first per request."""

    token: Ints
    log_prob: Floats
    cost: Floats
    parent: Ints
    """Row of the parent, counted through all requests."""
    target: Ints
    """The row that the child goes to, likewise."""
    moved: Ints | None
    """Which children go to another row than their parent's; None: none does."""


class Ends(NamedTuple):
    """Children of one step that end a hypothesis, by request, best first."""

    request: Ints
    row: Ints
    """The parent's, within the request."""
    cost: Floats


def full_step(
    costs: Floats, token_ids: Ints, log_probs: npt.NDArray[Any], end_id: int, each: Ints
) -> tuple[Full, Ends | None] | None:
    """What `children` and `place` give, with fewer operations, for the most usual step; None where it is another.

    Args:
        costs: [n, B], as for `children`; all hypotheses live.
        token_ids: [n, B, K]
        log_probs: [n, B, K]
        end_id: The end of the sentence.
        each: 0 to n * B - 1.
    """
    n, beam_size, width = log_probs.shape
    wanted = 2 * beam_size
    flat = (costs[:, :, None] - log_probs).reshape(n, -1)
    if flat.shape[1] < wanted:
        return None
    at = _least(flat, wanted)
    at += each[::beam_size, None] * width
    token = token_ids.take(at)
    is_end = token == end_id
    ends = None
    if np.count_nonzero(is_end):
        ended = is_end[:, :beam_size]
        if np.count_nonzero(ended):
            request, rank = ended.nonzero()
            ended_at = at[request, rank]
            ends = Ends(request, ended_at // width % beam_size, flat.take(ended_at))
            if not ends.cost.max() < np.inf:
                return None
        going = ~is_end
        going &= going.cumsum(axis=1) <= beam_size
        (picked,) = going.ravel().nonzero()
        if len(picked) < len(each):
            return None
        at, token = at.take(picked), token.take(picked)
    else:
        at, token = at[:, :beam_size].ravel(), token[:, :beam_size].ravel()
    cost = flat.take(at)
    if not cost.max() < np.inf:
        return None
    parent = at // width
    stays = np.empty(len(each), np.int64)
    stays.fill(-1)
    stays[parent[::-1]] = each[::-1]  # of a parent's children the best one is written last
    moves = stays[parent] != each
    if not np.count_nonzero(moves):
        return Full(token, log_probs.take(at), cost, parent, parent, None), ends
    (moved,) = moves.nonzero()
    target = parent.copy()
    # Of each request as many rows are free as children move, both in ascending order.
    target[moved] = (stays < 0).nonzero()[0]
    return Full(token, log_probs.take(at), cost, parent, target, moved), ends


def place(source: Ints, count: Ints) -> Placement:
    """Give each child a row: the best child of a parent stays in its row, the others take rows that are left.

    No row that is copied from is written to, so the order of copies does not matter.

    Args:
        source: [n, B], the parents' rows, best child first.
        count: [n], how many of them are children; the rest is filling.
    """
    beam_size = source.shape[1]
    rank = np.arange(beam_size)
    real = rank < count[:, None]
    same = (source[:, :, None] == source[:, None, :]) & real[:, None, :] & (rank[:, None] > rank)
    first = real & ~same.any(axis=2)
    occupied = ((source[:, :, None] == rank) & first[:, :, None]).any(axis=1)
    free = _least(occupied, beam_size)
    moved = real & ~first
    place_in_free = np.maximum(moved.cumsum(axis=1) - 1, 0)
    return Placement(np.where(moved, np.take_along_axis(free, place_in_free, axis=1), source), moved)


def _least(values: npt.NDArray[Any], count: int) -> Ints:
    """[n, count], where the least values of each row are, in ascending order; of equals, the first comes first.

    Lists are sorted and not the array: NumPy's sorts release the interpreter lock, and take it again only milliseconds
    later where another thread is busy.
    """
    order = range(values.shape[1])
    return np.array([sorted(order, key=row.__getitem__)[:count] for row in values.tolist()], np.int64)
