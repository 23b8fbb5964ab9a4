"""What changes logits before candidates are chosen: minimum length, repetition penalty, repeated n-grams, biases."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dragoman_service.engine.plan import NO_ADJUSTMENTS, Adjustments
from dragoman_service.engine.search.scores import BANNED

Ints = npt.NDArray[np.int64]


def repeated_ngram_ends(history: Ints, lengths: Ints, size: int) -> tuple[Ints, Ints]:
    """Find the tokens that would complete an n-gram of `size` tokens that the row has already.

    Returns columns of `history`, and tokens.

    Args:
        history: [steps, rows], the tokens of the last steps; those of a row are the last `lengths` of its column.
        lengths: [rows], numbers of tokens.
        size: 1 or more.
    """
    steps = len(history)
    starts = steps - size + 1
    if starts < 1:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    if size == 1:
        start, row = (np.arange(steps)[:, None] >= steps - lengths).nonzero()
        return row, history[start, row]
    # Few places have the newest token; only these are compared fully.
    start, row = (history[size - 2 : size - 2 + starts] == history[-1]).nonzero()
    found = start >= steps - lengths[row]
    for offset in range(size - 2):
        found &= history[start + offset, row] == history[starts + offset, row]
    start, row = start[found], row[found]
    return row, history[start + size - 1, row]


def adjustments(
    rows: Ints,
    bans: tuple[Ints, Ints],
    penalised: tuple[Ints, Ints],
    penalties: npt.NDArray[np.float64],
    max_token: int,
) -> Adjustments:
    """Merge bans and penalties, at most one for each pair of row and token; a ban replaces a penalty.

    Args:
        rows: Rows of the batch.
        bans: Index into `rows`, and token.
        penalised: Index into `rows`, and token that the row has produced.
        penalties: The penalty of each of `rows`.
        max_token: The largest token in `bans` and `penalised`, or more.
    """
    width = max_token + 1
    banned = np.unique(bans[0] * width + bans[1]) if len(bans[0]) else np.zeros(0, np.int64)
    row, token = penalised
    if len(banned) and len(row):
        free = ~np.isin(row * width + token, banned)
        row, token = row[free], token[free]
    if not len(banned) and not len(row):
        return NO_ADJUSTMENTS
    index = np.empty((len(banned) + len(row), 2), np.int64)
    index[: len(banned), 0] = rows[banned // width]
    index[: len(banned), 1] = banned % width
    index[len(banned) :, 0] = rows[row]
    index[len(banned) :, 1] = token
    penalty = np.ones(len(index), np.float32)
    penalty[len(banned) :] = penalties[row]
    bias = np.zeros(len(index), np.float32)
    bias[: len(banned)] = BANNED
    return Adjustments(index, penalty, bias)


def biased(adjustments: Adjustments, rows: Ints, tokens: Ints, biases: npt.NDArray[np.float64]) -> Adjustments:
    """Add numbers to logits, beside what adjustments do to them. Of a token that occurs twice in a row, both count."""
    count, width = len(adjustments), 1 + int(max(tokens.max(), adjustments.index[:, 1].max(initial=0)))
    index = np.concatenate((adjustments.index, np.stack((rows, tokens), axis=1)))
    _, first, place = np.unique(index[:, 0] * width + index[:, 1], return_index=True, return_inverse=True)
    penalty, bias = np.ones(len(first), np.float32), np.zeros(len(first), np.float32)
    penalty[place[:count]], bias[place[:count]] = adjustments.penalty, adjustments.bias
    np.add.at(bias, place[count:], biases.astype(np.float32))
    return Adjustments(index[first], penalty, bias)
