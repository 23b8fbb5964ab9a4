"""The tokens of the rows of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_LINES = 64


class TokenLog:
    """A table [lines, rows] of tokens, their log-probabilities, and the source positions they are aligned to.

    Every row writes its newest token into the same line, so the tokens of a row at position p are the last p entries of
    its column.
    """

    __slots__ = ("_aligned", "_line", "_log_probs", "_tokens")

    def __init__(self, rows: int) -> None:
        self._tokens = np.zeros((_LINES, rows), np.int64)
        self._log_probs = np.zeros((_LINES, rows), np.float64)
        self._aligned = np.zeros((_LINES, rows), np.int32)
        self._line = 0  # the next one to be written

    def write(
        self,
        tokens: npt.NDArray[Any],
        log_probs: npt.NDArray[Any],
        lengths: Ints,
        aligned: npt.NDArray[Any] | None = None,
    ) -> None:
        """Write the newest token of rows 0 to `len(tokens) - 1`, which have `lengths` tokens before.

        `aligned` may be left out if no row's positions will be read.
        """
        if self._line == len(self._tokens):
            self._scroll(int(lengths.max(initial=0)))
        line, rows = self._line, len(tokens)
        self._tokens[line, :rows] = tokens
        self._log_probs[line, :rows] = log_probs
        if aligned is not None:
            self._aligned[line, :rows] = aligned
        self._line = line + 1

    def of(self, row: int, length: int) -> tuple[list[int], list[float]]:
        """The last `length` tokens of a row and their log-probabilities."""
        lines = slice(self._line - length, self._line)
        return self._tokens[lines, row].tolist(), self._log_probs[lines, row].tolist()

    def aligned(self, row: int, length: int) -> list[int]:
        """The source positions of the last `length` tokens of a row."""
        positions: list[int] = self._aligned[self._line - length : self._line, row].tolist()
        return positions

    def tokens(self, rows: Ints, length: int) -> Ints:
        """The last `length` tokens of rows, [length, rows]."""
        return self._tokens[self._line - length : self._line, rows]

    def copy(self, source: int | Sequence[int], target: int | Sequence[int], length: int) -> None:
        """Copy the last `length` tokens from rows to rows, none of which is both a source and a target."""
        lines = slice(self._line - length, self._line)
        self._tokens[lines, target] = self._tokens[lines, source]
        self._log_probs[lines, target] = self._log_probs[lines, source]
        self._aligned[lines, target] = self._aligned[lines, source]

    def _scroll(self, longest: int) -> None:
        """Drop the lines that no row needs, and enlarge the table if necessary."""
        lines, rows = self._tokens.shape
        size = 2 * lines if 2 * longest > lines else lines
        for name in ("_tokens", "_log_probs", "_aligned"):
            old = getattr(self, name)
            new = np.zeros((size, rows), old.dtype)
            new[:longest] = old[self._line - longest : self._line]
            setattr(self, name, new)
        self._line = longest
