"""Beam search: the best children of the hypotheses of one request, and the places that they take.

A child is a hypothesis with one more token. It ends if that token is the end of the sentence. A step keeps the best
`beam_size` children that do not end. Each hypothesis has one child that ends, so the `2 * beam_size` best children
suffice. A child that ends finishes its hypothesis if it is among the best `beam_size`. Of equal children, that of the
lower place comes first, then that of the likelier candidate.

The code uses lists, not arrays. A step needs some ten comparisons for each request. Array operations for all requests
take longer up to some 64 requests: they are many, and between two runs of a model the processor's caches are cold.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heapify, heappop, heapreplace
from typing import TypeAlias

Child: TypeAlias = tuple[float, int, int]
"""Cost, place of the parent, and index of the candidate."""


def children(
    rows: Sequence[int],
    costs: Sequence[float],
    token_ids: Sequence[Sequence[int]],
    log_probs: Sequence[Sequence[float]],
    end_id: int,
) -> tuple[list[Child], list[Child]]:
    """Choose the best children from the candidates of one step.

    Candidates of a row are sorted, so the next child is the best of the first ones left of each row.

    Args:
        rows: The rows of the request in the batch, by place.
        costs: Minus the sums of log-probabilities of the live hypotheses, by place; infinity for a place without one.
        token_ids: Of every row of the batch, likeliest first. As many are used as there are, at most `2 * len(rows)`.
        log_probs: Of these; minus infinity for banned candidates.
        end_id: Token of the end of the sentence.

    Returns:
        The children that go on, at most `len(rows)`, and those that end and finish their hypotheses; both best first.
    """
    beam_size = len(rows)
    width = min(2 * beam_size, len(token_ids[rows[0]]))
    heads = [
        (cost - log_probs[row][0], place, 0)
        for place, (cost, row) in enumerate(zip(costs, rows, strict=True))
        if cost < math.inf
    ]
    heapify(heads)
    going: list[Child] = []
    ends: list[Child] = []
    for rank in range(2 * beam_size):
        if not heads:
            break
        child = heads[0]
        cost, place, index = child
        if not cost < math.inf:
            break
        row = rows[place]
        if token_ids[row][index] != end_id:
            going.append(child)
            if len(going) == beam_size:
                break
        elif rank < beam_size:
            ends.append(child)
        index += 1
        if index < width:
            heapreplace(heads, (costs[place] - log_probs[row][index], place, index))
        else:
            heappop(heads)
    return going, ends


def places(going: Sequence[Child], beam_size: int) -> list[int]:
    """Give each child a place: the best child of a parent keeps the place of the parent, the others take free places.

    No place is both a source and a target of copies, so their order does not matter.
    """
    occupied = {place for _, place, _ in going}
    if len(occupied) == len(going):
        return [place for _, place, _ in going]
    free = iter([place for place in range(beam_size) if place not in occupied])
    taken: list[int] = []
    for _, place, _ in going:
        if place in occupied:
            occupied.remove(place)
            taken.append(place)
        else:
            taken.append(next(free))
    return taken
