"""Admission: how much work may be in an engine, each client's part of it, and each call's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from dragoman_service.errors import Overloaded

SHARE = 4
"""A client may have this many times as many permits as are left free: alone 4/5 of all, of two each 4/9, and there is
always something left for who comes next (dynamic thresholds, Choudhury and Hahne, 1998)."""
_LATER_CALLS = 4
"""A call of a client that has others takes at most this part of what its client may still have, so that more find a
place: twenty calls of a hundred sentences each, say, on a server that is otherwise idle."""
_RETRY_SECONDS = (0.1, 30.0)
_UNKNOWN_BACKLOG = 2.0


class Permits:
    """One permit is the right to have one sentence in the engine. Not safe for threads: the engine's lock guards it.

    A call takes permits before its text is looked at, and is refused at once if there is none left for its client. It
    takes no more than its window, and where fewer are left, it takes those and feeds its sentences more slowly: a big
    call can neither fill the queue by itself nor be refused because it is big. The source tokens in the engine are
    bounded too: beyond that, no call begins, and those that run have one sentence at a time there.
    """

    def __init__(
        self, capacity: int, max_tokens: int, *, backlog_seconds: Callable[[], float] = lambda: _UNKNOWN_BACKLOG
    ) -> None:
        """`backlog_seconds` is how long what is in the engine will take: who is refused is told when to come again."""
        self.capacity = capacity
        self.free = capacity
        self.max_tokens = max_tokens
        self.tokens = 0
        """Source tokens in the engine."""
        self._backlog_seconds = backlog_seconds
        self._held: Counter[str] = Counter()

    @property
    def idle(self) -> bool:
        """Whether no call holds any."""
        return self.free == self.capacity

    def take(self, at_most: int, client: str = "") -> Grant:
        """Take up to so many permits, at least one. Raises Overloaded if there is none."""
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
        """Widen a grant by one permit if it needs more and many are left; narrow it by one if none is left.

        Returns 1, -1, or 0 where neither was done.
        """
        most = (SHARE * self.free - self._held[grant.client]) // (1 + SHARE)
        change = 0
        if most > grant.count and grant.wants_more and self.tokens < self.max_tokens:
            change = 1
        elif most < 1 and grant.has_spare:
            change = -1
        self._give(grant, change)
        return change

    def _give(self, grant: Grant, count: int) -> None:
        self.free -= count
        self._held[grant.client] += count
        grant.count += count

    def give_back(self, count: int, client: str) -> None:
        """Take back so many permits of a client."""
        self.free += count
        self._held[client] -= count
        if not self._held[client]:
            del self._held[client]

    def _overloaded(self, message: str) -> Overloaded:
        """By the time that half of what is there now is done, there will be room."""
        least, most = _RETRY_SECONDS
        return Overloaded(message, min(most, max(least, (self._backlog_seconds() or _UNKNOWN_BACKLOG) / 2)))


class Grant:
    """The permits of one call, which `expect(0)` gives back.

    The permit of a sentence in the engine is kept until the engine has said its last word on that sentence, even if
    the call ends before: until then the engine counts it, and would refuse whoever came in its place.
    """

    def __init__(self, permits: Permits, at_most: int, client: str) -> None:
        self._permits = permits
        self.client = client
        self._at_most = at_most
        self.remaining = at_most
        """Sentences to come or in the engine; at most, until `expect` has said how many there are."""
        self._in_engine = 0
        self.count = 0
        """Permits held: fewer while others want some, more when these have theirs given back."""

    @property
    def wants_more(self) -> bool:
        """Whether sentences wait for permits of this call."""
        return self.count < min(self._at_most, self.remaining)

    @property
    def has_spare(self) -> bool:
        """Whether a permit can be taken away: not the last one, and none of a sentence in the engine."""
        return self.count > max(1, self._in_engine)

    def expect(self, sentences: int) -> None:
        """So many sentences are to come or in the engine; surplus permits go back, now and as sentences end."""
        self.remaining = sentences
        self._give_back_surplus()

    def fits(self, tokens: int) -> bool:
        """Whether one more sentence, of so many source tokens, may enter the engine now; the only one always may."""
        if self._in_engine == 0:
            return True
        return self._in_engine < self.count and self._permits.tokens + tokens <= self._permits.max_tokens

    def enter(self, tokens: int) -> None:
        """A sentence of so many source tokens was taken by the engine."""
        self._in_engine += 1
        self._permits.tokens += tokens

    def leave(self, tokens: int) -> int:
        """The engine is done with a sentence. Returns by how many permits the grant was widened or narrowed."""
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
