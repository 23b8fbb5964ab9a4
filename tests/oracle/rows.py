"""What the rows of the running batch are fed: columns that follow requests as these join, move, step and leave."""

from __future__ import annotations

from collections.abc import Sequence

from oracle.search.base import Search


class RowTable:
    """One entry for each row below the slot pool's extent, changed only where rows change hands.

    So a step costs little more than its rows themselves, however many requests they belong to. Rows that nobody owns
    keep stale entries, until somebody takes them or `truncate` drops them.
    """

    __slots__ = ("_feeds", "_positions", "_source_lengths")

    def __init__(self) -> None:
        self._feeds: list[tuple[Search, int]] = []  # per row: the search, and the row's number within it
        self._positions: list[int] = []
        self._source_lengths: list[int] = []

    @property
    def positions(self) -> Sequence[int]:
        """Per row: position of the next step, which is also the number of self-attention positions cached."""
        return self._positions

    @property
    def source_lengths(self) -> Sequence[int]:
        """Per row: valid positions of cross attention."""
        return self._source_lengths

    def tokens(self) -> list[int]:
        """Per row: the token to feed in the next step. Only while no row lacks an owner."""
        return [search.next_tokens[number] for search, number in self._feeds]

    def assign(self, rows: Sequence[int], search: Search, source_length: int) -> None:
        """Rows have a new owner, which begins at position 0. They are there already, or next past the end."""
        for number, row in enumerate(rows):
            if row == len(self._feeds):
                self._feeds.append((search, number))
                self._positions.append(0)
                self._source_lengths.append(source_length)
            else:
                self._feeds[row] = (search, number)
                self._positions[row] = 0
                self._source_lengths[row] = source_length

    def move(self, source: int, target: int) -> None:
        """What was in one row is in another one now."""
        self._feeds[target] = self._feeds[source]
        self._positions[target] = self._positions[source]
        self._source_lengths[target] = self._source_lengths[source]

    def truncate(self, num_rows: int) -> None:
        """Drop the rows from `num_rows` on."""
        del self._feeds[num_rows:], self._positions[num_rows:], self._source_lengths[num_rows:]

    def advance(self) -> None:
        """A step has been made: every row is one position further."""
        self._positions = [position + 1 for position in self._positions]
