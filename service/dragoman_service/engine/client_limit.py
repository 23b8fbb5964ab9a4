"""The limit on the rows of one client while others are served.

On a CPU, the time of a step grows with its rows, so a client with many rows makes every step of the others long. The
limit costs it throughput only as far as a step of fewer rows takes more time for each: nothing with a small model,
some with a large one (`tests/load/bulk.py` measures both sides).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_MEMORY = 128
"""A client counts as served for so many steps after its last request joined, so that the limit outlasts the gaps
between its requests."""


@dataclass(slots=True)
class _Joined:
    client: str = ""
    step: int = -_MEMORY - 1


class ClientLimit:
    """Says whether a request would exceed its client's rows. Knows only the two clients that joined last."""

    def __init__(self, most: int) -> None:
        """`most` is the number of rows of one client, 1 or more."""
        self.most = most
        self._last, self._previous = _Joined(), _Joined()

    def joined(self, client: str, step: int) -> None:
        """Note that a request of a client joined in a step. Steps count up."""
        if self._last.client != client:
            self._previous = self._last
        self._last = _Joined(client, step)

    def allows(self, client: str, rows: int, held: Mapping[str, int], step: int) -> bool:
        """Whether `client` may hold `rows` more rows, where every client holds the rows of `held`.

        A client that holds no rows always may, or a request wider than the limit would never run.
        """
        own = held.get(client, 0)
        if not own or own + rows <= self.most:
            return True
        other = self._previous if self._last.client == client else self._last
        return len(held) == 1 and step - other.step > _MEMORY
