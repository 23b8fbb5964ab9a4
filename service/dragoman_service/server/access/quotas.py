"""Quotas of tokens: requests and characters a minute, and calls at the same time.

`Quotas` is the interface. `LocalQuotas` counts in this process. Several front processes ask one place: see
`server.fronts`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from dragoman_service.errors import InvalidInput, QuotaExceeded
from dragoman_service.server.access.tokens import Token

_MINUTE = 60 * 10**9
"""Nanoseconds."""
_MILLISECOND = 10**6
_BUSY_RETRY = 1.0
"""Seconds after which to try again while too many calls run: when one of them will end is not known."""


class Lease(Protocol):
    """What an admitted call has taken. One of these two is called once, when the call is over."""

    def end(self) -> None:
        """The call has ended."""
        ...

    def give_back(self) -> None:
        """The call was refused before any work: it counts as if it had not been made."""
        ...


class Quotas(Protocol):
    """Counts what the calls of tokens take."""

    async def take(self, token: Token, characters: int) -> Lease:
        """Admit a call with so many characters.

        Raises:
            QuotaExceeded: not now; nothing was taken. `retry_after` says when.
            InvalidInput: never; the call has more characters than the token may send in a minute.
        """
        ...

    def keep(self, tokens: Iterable[Token]) -> None:
        """Forget the counts of all other tokens."""
        ...


class Bucket:
    """A token bucket of one minute's worth, full at the start. It is refilled evenly, `limit` units a minute.

    So at most `limit` units pass at once, and at most `limit * (t + 1)` in any `t` minutes. All numbers are exact: the
    level is in units of 1 / `_MINUTE`, so that a nanosecond refills `limit` of them.
    """

    __slots__ = ("_level", "_time", "limit")

    def __init__(self, limit: int, now: int) -> None:
        self.limit = limit
        self._level = limit * _MINUTE
        self._time = now

    def set_limit(self, limit: int, now: int) -> None:
        """Change the limit. What is in the bucket stays, up to the new limit."""
        self._refill(now)
        self.limit = limit
        self._level = min(self._level, limit * _MINUTE)

    def wait(self, amount: int, now: int) -> int:
        """Nanoseconds until `amount`, at most `limit`, can be taken; 0: now."""
        self._refill(now)
        missing = amount * _MINUTE - self._level
        return max(0, -(-missing // self.limit))

    def take(self, amount: int) -> None:
        """Take what `wait` has said is there."""
        self._level -= amount * _MINUTE

    def put_back(self, amount: int) -> None:
        """Undo `take`. The next `wait` cuts off what is above the limit."""
        self._level += amount * _MINUTE

    def _refill(self, now: int) -> None:
        self._level = min(self._level + (now - self._time) * self.limit, self.limit * _MINUTE)
        self._time = now


@dataclass(slots=True, eq=False)
class _Counts:
    """What the calls of a token have taken."""

    requests: Bucket | None = None
    characters: Bucket | None = None
    running: int = 0


class LocalQuotas:
    """Counts in this process, on one thread. It has one record for each token that has called."""

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        """`clock` returns nanoseconds, and never goes back."""
        self._clock = clock
        self._counts: dict[str, _Counts] = {}

    async def take(self, token: Token, characters: int) -> Lease:
        """See Quotas."""
        return self.take_now(token, characters)

    def take_now(self, token: Token, characters: int) -> Lease:
        """`take`, which does not wait."""
        most = token.characters_per_minute
        if most is not None and characters > most:
            allowed = f"at most {most}, which token {token.name} may send in a minute; send the texts in several calls"
            raise InvalidInput("texts", f"{characters} characters", allowed)
        counts = self._counts.setdefault(token.id, _Counts())
        if token.concurrent is not None and counts.running >= token.concurrent:
            raise QuotaExceeded(
                f"token {token.name} has {token.concurrent} calls running, as many as it may", _BUSY_RETRY
            )
        now = self._clock()
        counts.requests = _adjusted(counts.requests, token.requests_per_minute, now)
        counts.characters = _adjusted(counts.characters, most, now)
        taken = [
            (bucket, amount, unit)
            for bucket, amount, unit in (
                (counts.requests, 1, "requests"),
                (counts.characters, characters, "characters"),
            )
            if bucket is not None
        ]
        # Nothing is taken from one bucket if the other has too little.
        waits = [(bucket.wait(amount, now), bucket.limit, unit) for bucket, amount, unit in taken]
        longest, limit, unit = max(waits, default=(0, 0, ""))
        if longest:
            seconds = -(-longest // _MILLISECOND) / 1_000
            raise QuotaExceeded(
                f"token {token.name} may send {limit} {unit} a minute; in {seconds:g} s this fits", seconds
            )
        for bucket, amount, _ in taken:
            bucket.take(amount)
        counts.running += 1
        return _LocalLease(counts, [(bucket, amount) for bucket, amount, _ in taken])

    def keep(self, tokens: Iterable[Token]) -> None:
        """See Quotas."""
        known = {token.id for token in tokens}
        self._counts = {id_part: counts for id_part, counts in self._counts.items() if id_part in known}

    def __len__(self) -> int:
        """Number of records."""
        return len(self._counts)


@dataclass(frozen=True, slots=True, eq=False)
class _LocalLease:
    counts: _Counts
    taken: list[tuple[Bucket, int]]

    def end(self) -> None:
        self.counts.running -= 1

    def give_back(self) -> None:
        for bucket, amount in self.taken:
            bucket.put_back(amount)
        self.end()


def _adjusted(bucket: Bucket | None, limit: int | None, now: int) -> Bucket | None:
    """The bucket with the limit of the token as it is now."""
    if limit is None:
        return None
    if bucket is None:
        return Bucket(limit, now)
    if bucket.limit != limit:
        bucket.set_limit(limit, now)
    return bucket
