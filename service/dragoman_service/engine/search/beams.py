"""Beam search over arrays: the best children of the hypotheses of many requests, and the rows that they move to.

A child is a hypothesis with one more token. It ends if that token is the end of the sentence. A step keeps the best
`beam_size` children that do not end. Each hypothesis has one child that ends, so the `2 * beam_size` best children
suffice. A child that ends finishes its hypothesis if it is among the best `beam_size`. Of equal children, that of the
lower row comes first, then that of the likelier candidate, because the sort is stable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


class Children(NamedTuple):
    """The best children of `n` requests with `B` rows each. Children that do not end go on, at most `B` per request."""

    token: Ints
    """[n, B], children that go on, best first. Entries from index `going` on are undefined."""
    log_prob: Floats
    """[n, B]"""
    cost: Floats
    """[n, B], minus the sum of log-probabilities from the first token; infinity from index `going` on."""
    source: Ints
    """[n, B], row of the parent within the request."""
    going: Ints
    """[n], number of children that go on."""
    ends: Bools
    """[n, B], by rank among all children: whether the child ends."""
    end_cost: Floats
    """[n, B], cost by the same rank."""
    end_source: Ints
    """[n, B], row of the parent by the same rank."""


class Placement(NamedTuple):
    """The rows of children."""

    target: Ints
    """[n, B], the row of each child within its request."""
    moved: Bools
    """[n, B], whether the row differs from that of the parent, whose caches and history must then be copied to it."""


def children(costs: Floats, token_ids: Ints, log_probs: npt.NDArray[Any], end_id: int) -> Children:
    """Choose the best children from the candidates of one step.

    Args:
        costs: [n, B], minus the sums of log-probabilities of the live hypotheses; infinity for rows without one.
        token_ids: [n, B, K], likeliest first.
        log_probs: [n, B, K]; minus infinity for banned candidates.
        end_id: Token of the end of the sentence.
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
    """The children of a step in which every request has `B` that go on. Arrays are [n * B], best first per request."""

    token: Ints
    log_prob: Floats
    cost: Floats
    parent: Ints
    """Row of the parent, numbered over all requests."""
    target: Ints
    """Row of the child, numbered in the same way."""
    moved: Ints | None
    """Indices of the children whose row differs from that of the parent; None if there is none."""


class Ends(NamedTuple):
    """Children of one step that end, by request, best first."""

    request: Ints
    row: Ints
    """Row of the parent within the request."""
    cost: Floats


def full_step(
    costs: Floats, token_ids: Ints, log_probs: npt.NDArray[Any], end_id: int, each: Ints
) -> tuple[Full, Ends | None] | None:
    """Compute the results of `children` and `place` with fewer operations, for the usual step.

    Every request has `B` children that go on in a usual step. Returns None for any other step.

    Args:
        costs: [n, B], as for `children`; all hypotheses live.
        token_ids: [n, B, K]
        log_probs: [n, B, K]
        end_id: Token of the end of the sentence.
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
    stays[parent[::-1]] = each[::-1]  # the best child of a parent is written last
    moves = stays[parent] != each
    if not np.count_nonzero(moves):
        return Full(token, log_probs.take(at), cost, parent, parent, None), ends
    (moved,) = moves.nonzero()
    target = parent.copy()
    # A request has as many free rows as moving children, both in ascending order.
    target[moved] = (stays < 0).nonzero()[0]
    return Full(token, log_probs.take(at), cost, parent, target, moved), ends


def place(source: Ints, count: Ints) -> Placement:
    """Give each child a row: the best child of a parent keeps the row of the parent, the others take free rows.

    No row is both a source and a target of copies, so their order does not matter.

    Args:
        source: [n, B], rows of the parents, best child first.
        count: [n], number of children; the other entries are ignored.
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
    """Indices [n, count] of the smallest values of each row, in ascending order of value, then of index.

    Lists are sorted instead of the array, because NumPy's sorts release the interpreter lock. If another thread is
    busy, they get it back only milliseconds later.
    """
    order = range(values.shape[1])
    return np.array([sorted(order, key=row.__getitem__)[:count] for row in values.tolist()], np.int64)
