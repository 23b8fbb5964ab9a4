"""Admission: limits on the work in an engine, in all, of each client, and of each call."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dragoman_service.errors import Overloaded

SHARE = 4
"""A client may hold this many times the number of free permits (dynamic thresholds, Choudhury and Hahne, 1998). A
single client gets 4/5 of all permits, each of two clients 4/9, and some permits stay free for the next client."""
_LATER_CALLS = 4
"""A further call of a client takes at most one part in this many of the permits that its client may still take. So more
calls of one client are admitted, for example twenty calls of a hundred sentences each on an idle server."""
_RETRY_SECONDS = (0.1, 30.0)
"""Minimum and maximum of `Overloaded.retry_after`."""
_UNKNOWN_BACKLOG = 2.0
"""Backlog in seconds that is assumed while there is no estimate."""


class Permits:
    """The permits of an engine. One permit is the right to have one sentence in the engine.

    A call takes permits before its text is prepared, and is refused if none is left for its client. It takes at most
    its window. If fewer are left, it takes those and submits its sentences more slowly. So a big call can neither fill
    the queue by itself nor be refused because it is big. The source tokens in the engine are limited too: at the limit,
    no call is admitted, and open calls have one sentence at a time in the engine.

    Not thread-safe: the engine's lock guards it.
    """

    def __init__(
        self, capacity: int, max_tokens: int, *, backlog_seconds: Callable[[], float] = lambda: _UNKNOWN_BACKLOG
    ) -> None:
        """Make `capacity` permits.

        `backlog_seconds` returns the expected seconds until the work in the engine is done, 0 if unknown. It decides
        `Overloaded.retry_after`.
        """
        self.capacity = capacity
        self.free = capacity
        self.max_tokens = max_tokens
        self.tokens = 0
        """Source tokens in the engine."""
        self._backlog_seconds = backlog_seconds
        self._held: Counter[str] = Counter()

    @property
    def idle(self) -> bool:
        """Whether no call holds a permit."""
        return self.free == self.capacity

    def take(self, at_most: int, client: str = "") -> Grant:
        """Take 1 to `at_most` permits for a call. Raises Overloaded if the client may have none.

        None are taken if `at_most` is 0.
        """
        if not at_most:
            return Grant(self, 0, client)
        if not self.free:
            raise self._overloaded(f"the queue is full: {self.capacity} sentences are waiting or running")
        if self.tokens >= self.max_tokens:
            raise self._overloaded(f"the queue is full: {self.tokens} source tokens are waiting or running")
        held = self._held[client]
        most = max((SHARE * self.free - held) // (1 + SHARE), 0 if held else 1)
        if not most:
            raise self._overloaded(f"{held} sentences of this client are waiting or running; the rest is for others")
        grant = Grant(self, at_most, client)
        self._give(grant, min(at_most, max(1, most // _LATER_CALLS) if held else most))
        return grant

    def adapt(self, grant: Grant) -> int:
        """Add a permit to a grant, or take one away, as the number of free permits changes.

        A permit is added if the call can use it and its client may take more permits than the call holds. One is taken
        away if it is spare and the client may take none.

        Returns the change: 1, -1 or 0.
        """
        most = (SHARE * self.free - self._held[grant.client]) // (1 + SHARE)
        change = 0
        if most > grant.count and grant.wants_more and self.tokens < self.max_tokens:
            change = 1
        elif most < 1 and grant.has_spare:
            change = -1
        if change:
            self._give(grant, change)
        return change

    def _give(self, grant: Grant, count: int) -> None:
        self.free -= count
        self._held[grant.client] += count
        grant.count += count

    def give_back(self, count: int, client: str) -> None:
        """Return `count` permits of a client."""
        self.free += count
        self._held[client] -= count
        if not self._held[client]:
            del self._held[client]

    def _overloaded(self, message: str) -> Overloaded:
        """Return the error, with `retry_after` set to half of the expected time of the work in the engine."""
        least, most = _RETRY_SECONDS
        return Overloaded(message, min(most, max(least, (self._backlog_seconds() or _UNKNOWN_BACKLOG) / 2)))


class Grant:
    """The permits of one call. `expect(0)` gives them back.

    The permit of a sentence in the engine is kept until the final event of that sentence, even if the call ends before:
    until then the sentence uses rows or a place in the queue.
    """

    def __init__(self, permits: Permits, at_most: int, client: str) -> None:
        self._permits = permits
        self.client = client
        self._at_most = at_most
        self.remaining = at_most
        """Number of sentences that have not ended; an upper bound until the first `expect`."""
        self._in_engine = 0  # sentences
        self.count = 0
        """Permits held. It falls as other clients take permits, and rises again as these are given back."""

    @property
    def wants_more(self) -> bool:
        """Whether the call can use another permit."""
        return self.count < min(self._at_most, self.remaining)

    @property
    def has_spare(self) -> bool:
        """Whether a permit can be taken away: neither the last one nor that of a sentence in the engine."""
        return self.count > max(1, self._in_engine)

    def expect(self, sentences: int) -> None:
        """Set the number of sentences that have not ended. Surplus permits are given back, now and as sentences end."""
        self.remaining = sentences
        self._give_back_surplus()

    def fits(self, tokens: int) -> bool:
        """Whether another sentence of `tokens` source tokens may enter the engine. A call may always have one there."""
        if self._in_engine == 0:
            return True
        return self._in_engine < self.count and self._permits.tokens + tokens <= self._permits.max_tokens

    def enter(self, tokens: int) -> None:
        """Record that a sentence of `tokens` source tokens has entered the engine."""
        self._in_engine += 1
        self._permits.tokens += tokens

    def leave(self, tokens: int) -> int:
        """Record that a sentence has left the engine. Returns the change of the grant, see `Permits.adapt`."""
        self._in_engine -= 1
        self._permits.tokens -= tokens
        self.remaining = max(0, self.remaining - 1)
        change = self._permits.adapt(self)
        self._give_back_surplus()
        return change

    def _give_back_surplus(self) -> None:
        surplus = max(0, self.count - max(self.remaining, self._in_engine))
        self.count -= surplus
        if surplus:
            self._permits.give_back(surplus, self.client)
