"""Room for connections: how many there may be, and how long one may wait for a request."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Room:
    """The seats of open connections, for one event loop.

    When all are taken, the connection that has waited longest for a request, or for the rest of one, gives its seat to
    a new one. So connections that ask nothing, or ask slowly, keep nobody out, and those whose request is being
    answered lose nothing.
    """

    def __init__(self, seats: int) -> None:
        self._seats = seats
        self._taken: set[Seat] = set()
        self._waiting: dict[Seat, None] = {}

    def __len__(self) -> int:
        """Seats that are taken."""
        return len(self._taken)

    def enter(self, abort: Callable[[], object], seconds: float) -> Seat | None:
        """Take a seat; `seconds` as for `Seat.wait`. None if all are taken by connections with requests.

        Args:
            abort: Ends the connection.
            seconds: See `Seat.wait`.
        """
        if len(self._taken) >= self._seats:
            longest = next(iter(self._waiting), None)
            if longest is None:
                return None
            longest.end()
        seat = Seat(self, abort)
        self._taken.add(seat)
        seat.wait(seconds)
        return seat

    def set_waiting(self, seat: Seat, waits: bool) -> None:
        """Say whether a connection waits for a request or the rest of one, from now on."""
        self._waiting.pop(seat, None)
        if waits:
            self._waiting[seat] = None

    def leave(self, seat: Seat) -> None:
        """Give a seat back. May be called again."""
        self._taken.discard(seat)
        self._waiting.pop(seat, None)

    def clear(self) -> None:
        """End all connections."""
        for seat in list(self._taken):
            seat.end()


class Seat:
    """The seat of a connection."""

    def __init__(self, room: Room, abort: Callable[[], object]) -> None:
        self._room = room
        self._timer: asyncio.TimerHandle | None = None
        self.abort = abort
        """Ends the connection; to be replaced when another object has the connection."""

    def wait(self, seconds: float) -> None:
        """The connection waits for a request. It is ended after `seconds`, unless this or `work` is called before."""
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end)
        self._room.set_waiting(self, True)

    def receive(self) -> None:
        """The connection has the beginning of a request. Whoever reads the rest limits the time for it."""
        self._stop_timer()
        self._room.set_waiting(self, True)

    def work(self) -> None:
        """The connection has a whole request."""
        self._stop_timer()
        self._room.set_waiting(self, False)

    def leave(self) -> None:
        """The connection has ended. May be called again."""
        self._stop_timer()
        self._room.leave(self)

    def end(self) -> None:
        """End the connection."""
        self.leave()
        self.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
