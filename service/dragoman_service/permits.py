"""Admission: how many sentences may be in an engine, and each call's share of it."""

from __future__ import annotations

from types import TracebackType

from dragoman_service.errors import Overloaded


class Permits:
    """One permit is the right to have one sentence in the engine. Used on the event loop's thread only.

    A call takes permits before its text is looked at, and is refused at once if there is none left. It takes no more
    than its window, and where fewer are left, it takes those and feeds its sentences more slowly: a big call can
    neither fill the queue by itself nor be refused because it is big.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.free = capacity

    def take(self, at_most: int) -> Grant:
        """Take up to so many permits, at least one. Raises Overloaded if there is none."""
        if self.free == 0:
            raise Overloaded(f"the queue is full: {self.capacity} sentences are waiting or running")
        count = min(at_most, self.free)
        self.free -= count
        return Grant(self, count)


class Grant:
    """The permits of one call; a context manager that gives them back.

    The permit of a sentence in the engine is kept until the engine has said its last word on that sentence, even if
    the call ends before: until then the engine counts it, and would refuse whoever came in its place.
    """

    def __init__(self, permits: Permits, count: int) -> None:
        self._permits = permits
        self._wanted = count
        self._in_engine = 0
        self.count = count
        """Permits held."""

    def expect(self, sentences: int) -> None:
        """So many sentences are to come; permits beyond that are given back, now and as they become fewer."""
        self._wanted = sentences
        self._give_back_surplus()

    def enter(self) -> None:
        """A sentence was taken by the engine."""
        self._in_engine += 1

    def leave(self) -> None:
        """The engine is done with a sentence."""
        self._in_engine -= 1
        self._wanted = max(0, self._wanted - 1)
        self._give_back_surplus()

    def _give_back_surplus(self) -> None:
        surplus = max(0, self.count - max(self._wanted, self._in_engine))
        self.count -= surplus
        self._permits.free += surplus

    def __enter__(self) -> Grant:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.expect(0)
