"""Beam search over arrays: the best children of the hypotheses of many requests, and the rows that they move to.

A child is a hypothesis with one more token. It ends if that token is the end of the sentence. A step keeps the best
`beam_size` children that do not end. Each hypothesis has one child that ends, so the `2 * beam_size` best children
suffice. A child that ends finishes its hypothesis if it is among the best `beam_size`. Of equal children, that of the
lower row comes first, then that of the likelier candidate, because the sort is stable.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heapreplace
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
    costs: Floats, token_ids: Ints, log_probs: npt.NDArray[Any], end_id: int
) -> tuple[Full, Ends | None] | None:
    """Compute the results of `children` and `place` faster, for the usual step.

    Every request has `B` children that go on in a usual step. Returns None for any other step.

    The candidates of a row are sorted, so the next child is the best of the heads of the rows. Equal children come in
    the order of rows, as from the stable sort. Lists are used and not arrays: between two runs of a model the caches of
    the processor are cold, and a few lines of Python in a loop fill them less than two dozen array operations. Up to 64
    rows of beams of 4 this was measured to be faster.

    Args:
        costs: [n, B], as for `children`; all hypotheses live.
        token_ids: [n, B, K]
        log_probs: [n, B, K]
        end_id: Token of the end of the sentence.
    """
    _, beam_size, width = log_probs.shape
    rows = range(beam_size)
    # A list for each field of `Full`, and an item of `ends` for each child of `Ends`.
    token: list[int] = []
    log_prob: list[float] = []
    cost: list[float] = []
    parent: list[int] = []
    target: list[int] = []
    moved: list[int] = []
    ends: list[tuple[int, int, float]] = []
    candidates = zip(costs.tolist(), token_ids.tolist(), log_probs.tolist(), strict=True)
    for request, (row_costs, row_tokens, likely) in enumerate(candidates):
        heads = [(row_costs[row] - likely[row][0], row, 0) for row in rows]
        heapify(heads)
        taken: list[int] = []
        for rank in range(2 * beam_size):
            if not heads or not heads[0][0] < math.inf:
                return None
            total, row, index = heads[0]
            if row_tokens[row][index] != end_id:
                token.append(row_tokens[row][index])
                log_prob.append(likely[row][index])
                cost.append(total)
                taken.append(row)
                if len(taken) == beam_size:
                    break
            elif rank < beam_size:
                ends.append((request, row, total))
            if index + 1 < width:
                heapreplace(heads, (row_costs[row] - likely[row][index + 1], row, index + 1))
            else:
                heappop(heads)
        else:
            return None
        first = request * beam_size
        parent += [first + row for row in taken]
        if len(set(taken)) < beam_size:
            free = iter([row for row in rows if row not in taken])
            for child, row in enumerate(taken):
                if row in taken[:child]:  # a better child stays in the row of the parent
                    moved.append(first + child)
                    taken[child] = -1
            taken = [next(free) if row < 0 else row for row in taken]
        target += [first + row for row in taken]
    full = Full(
        np.array(token, np.int64),
        np.array(log_prob, np.float64),
        np.array(cost, np.float64),
        np.array(parent, np.int64),
        np.array(target, np.int64),
        np.array(moved, np.int64) if moved else None,
    )
    return full, Ends(*(np.array(column) for column in zip(*ends, strict=True))) if ends else None


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
