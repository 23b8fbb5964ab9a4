"""Which request owns which row of the running batch."""

from __future__ import annotations


class SlotError(Exception):
    """Rows taken or given back wrongly: always a bug of the caller, never bad input."""


class SlotPool:
    """Rows 0 to `max_rows - 1`, each free or owned by one request.

    The rows that a step covers are 0 to `extent - 1`. Giving rows back leaves holes below `extent`: those are taken
    first by `acquire`, and `compact` closes what is left of them, so that a batch in which one request leaves while
    another one joins costs no copy at all. Rows never move but in `compact`.
    """

    __slots__ = ("_holes", "_owners", "_rows", "max_rows")

    def __init__(self, max_rows: int) -> None:
        if max_rows < 1:
            raise ValueError(f"max_rows: got {max_rows}; allowed: 1 or more")
        self.max_rows = max_rows
        self._owners: list[int | None] = []  # per row below the extent; None is a hole
        self._holes: list[int] = []
        self._rows: dict[int, list[int]] = {}

    @property
    def extent(self) -> int:
        """One more than the highest row that is owned or a hole."""
        return len(self._owners)

    @property
    def num_used(self) -> int:
        """Rows owned."""
        return len(self._owners) - len(self._holes)

    @property
    def num_free(self) -> int:
        """Rows that `acquire` can give."""
        return self.max_rows - self.num_used

    @property
    def holes(self) -> tuple[int, ...]:
        """Rows below `extent` that nobody owns, ascending."""
        return tuple(sorted(self._holes))

    def rows(self, owner: int) -> list[int]:
        """The owner's rows in the order of its own numbering. Not to be changed by the caller."""
        return self._rows[owner]

    def acquire(self, owner: int, count: int) -> list[int]:
        """Give `count` free rows to a new owner: the lowest holes first, then rows past the extent."""
        if owner in self._rows:
            raise SlotError(f"request {owner} owns rows {self._rows[owner]} already")
        if not 1 <= count <= self.num_free:
            raise SlotError(f"request {owner} wants {count} rows, {self.num_free} are free")
        self._holes.sort()
        rows = self._holes[:count]
        del self._holes[:count]
        for row in rows:
            self._owners[row] = owner
        for _ in range(count - len(rows)):
            rows.append(len(self._owners))
            self._owners.append(owner)
        self._rows[owner] = rows
        return rows

    def release(self, owner: int) -> None:
        """Take all rows of an owner back."""
        if owner not in self._rows:
            raise SlotError(f"request {owner} owns no rows")
        for row in self._rows.pop(owner):
            self._owners[row] = None
            self._holes.append(row)

    def compact(self) -> list[tuple[int, int, int]]:
        """Move the last rows into the holes, until none is left.

        Returns the moves as (owner, source row, target row). No target is the source of another move, so their order
        does not matter, and rows acquired since the last call never move.
        """
        moves: list[tuple[int, int, int]] = []
        for hole in sorted(self._holes):
            while self._owners and self._owners[-1] is None:
                self._owners.pop()
            if hole >= len(self._owners):
                break
            owner = self._owners.pop()
            assert owner is not None  # the loop above has just dropped all holes from the end
            source = len(self._owners)
            self._owners[hole] = owner
            rows = self._rows[owner]
            rows[rows.index(source)] = hole
            moves.append((owner, source, hole))
        self._holes.clear()
        return moves
