"""Beam search over arrays: the best children of the hypotheses of many requests, and the rows that they move to.

A child is a hypothesis with one more token. It ends if that token is the end of the sentence. A step keeps the best
`beam_size` children that do not end. Each hypothesis has one child that ends, so the `2 * beam_size` best children
suffice. A child that ends finishes its hypothesis if it is among the best `beam_size`. Of equal children, that of the
lower row comes first, then that of the likelier candidate, because the sort is stable.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heapify, heapreplace
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


class Child(NamedTuple):
    """A child that goes on, of a usual step."""

    target: int
    """Its row in the batch."""
    source: int
    """The row of its parent."""
    token: int
    log_prob: float
    cost: float


def usual_step(
    rows: Sequence[int],
    costs: Sequence[float],
    token_ids: Sequence[Sequence[int]],
    log_probs: Sequence[Sequence[float]],
    end_id: int,
) -> tuple[list[Child], list[tuple[int, float]]] | None:
    """Compute what `children` and `place` give for one request, if as many children go on as it has rows.

    Candidates of a row are sorted, so the next child is the best of the heads of the rows. Equal children come in the
    order of `rows`, as from the stable sort of `children`. Lists are used because array operations are slower here:
    between two runs of a model the caches of the processor are cold, and a loop needs less code than many operations.

    Args:
        rows: The rows of the request in the batch.
        costs: Of every row of the batch; see `children`. Every hypothesis of the request is live.
        token_ids: Of every row, at least `2 * len(rows)` candidates, likeliest first.
        log_probs: Of these.
        end_id: Token of the end of the sentence.

    Returns:
        The children, best first, and the children that end: row of the parent and cost, best first. None if fewer
        children than rows go on.
    """
    beam_size = len(rows)
    heads = [(costs[row] - log_probs[row][0], place, 0) for place, row in enumerate(rows)]
    heapify(heads)
    going: list[tuple[int, int, float]] = []  # place of the parent, index of the candidate, cost
    ends: list[tuple[int, float]] = []
    for rank in range(2 * beam_size):
        cost, place, index = heads[0]
        row = rows[place]
        if not cost < math.inf:
            return None
        if token_ids[row][index] != end_id:
            going.append((place, index, cost))
            if len(going) == beam_size:
                break
        elif rank < beam_size:
            ends.append((row, cost))
        index += 1
        if index == 2 * beam_size:
            return None
        heapreplace(heads, (costs[row] - log_probs[row][index], place, index))
    else:
        return None
    occupied = {place for place, _, _ in going}
    free = [row for place, row in enumerate(rows) if place not in occupied]
    free.reverse()
    children: list[Child] = []
    for place, index, cost in going:
        row = target = rows[place]
        if place in occupied:
            occupied.remove(place)  # the best child of a parent stays in its row
        else:
            target = free.pop()
        children.append(Child(target, row, token_ids[row][index], log_probs[row][index], cost))
    return children, ends


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
