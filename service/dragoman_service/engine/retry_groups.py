"""Retry groups: the requests of a failed step run again in smaller groups.

Groups are halved until the request that causes the failure runs alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dragoman_service.engine.active_request import Waiting


class RetryGroups:
    """Groups of requests, each of which runs without other requests; last in, first out.

    This is a bisection: if one of n requests causes the failure, at most log2 n further steps fail. All other requests
    get the same result as without the failure, because a translation does not depend on its neighbours. Halving also
    helps if memory suffices only for a smaller batch.
    """

    def __init__(self) -> None:
        self._groups: list[list[Waiting]] = []

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def __contains__(self, request_id: int) -> bool:
        return any(waiting.request.id == request_id for waiting in self)

    def __iter__(self) -> Iterator[Waiting]:
        """All requests, in the order in which they will run."""
        for group in reversed(self._groups):
            yield from group

    def get(self, request_id: int) -> Waiting | None:
        """The request with this id; None if there is none."""
        return next((waiting for waiting in self if waiting.request.id == request_id), None)

    def split(self, group: Sequence[Waiting]) -> None:
        """Add the two halves of a group whose step has failed.

        The group may have one request, if the others were aborted while the step ran.
        """
        half = len(group) // 2
        self._groups += [list(group[half:]), list(group[:half])]

    def pop(self) -> list[Waiting]:
        """Remove and return the group to run next, without aborted requests; empty if there is none."""
        while self._groups:
            if group := self._groups.pop():
                return group
        return []

    def remove(self, request_id: int) -> bool:
        """Remove a request; returns whether it was there."""
        for group in self._groups:
            for index, waiting in enumerate(group):
                if waiting.request.id == request_id:
                    del group[index]
                    return True
        return False
