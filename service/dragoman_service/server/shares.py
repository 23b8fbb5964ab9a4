"""Shares of a limited resource, divided among clients."""

from __future__ import annotations

from collections import Counter

from dragoman_service.engine.permits import SHARE


class Shares:
    """A limited amount of something that clients hold parts of. For one thread.

    A client may hold `SHARE` times the free amount. So a single client gets 4/5 of everything, each of two clients 4/9,
    and some is left for the next client.
    """

    def __init__(self, capacity: int) -> None:
        """`capacity` is the amount that all clients together may hold."""
        self.capacity = capacity
        self.free = capacity
        self._held: Counter[str] = Counter()

    def take(self, client: str, amount: int) -> bool:
        """Give an amount to a client. Returns False, and gives nothing, if that is more than the client's share."""
        held, free = self._held[client] + amount, self.free - amount
        first = held == amount  # who holds nothing may take what there is
        if free < 0 or not (first or held <= SHARE * free):
            if first:
                del self._held[client]
            return False
        self.free = free
        self._held[client] = held
        return True

    def give_back(self, client: str, amount: int) -> None:
        """Take an amount back from a client."""
        self.free += amount
        self._held[client] -= amount
        if not self._held[client]:
            del self._held[client]
