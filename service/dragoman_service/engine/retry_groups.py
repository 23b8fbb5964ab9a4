"""After a step that failed: run its requests again in ever smaller groups, until whoever makes steps fail is alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dragoman_service.engine.batch import Waiting


class RetryGroups:
    """Groups of requests, each of which is to run with nobody else beside it, last in first out.

    Bisection: with one culprit among n requests, at most log2 n further steps fail, and all others get what they would
    have got, since a translation does not depend on its neighbours. It also gets work done for which there is memory in
    halves only.
    """

    def __init__(self) -> None:
        self._groups: list[list[Waiting]] = []

    def __len__(self) -> int:
        return sum(map(len, self._groups))

    def __contains__(self, request_id: int) -> bool:
        return any(waiting.request.id == request_id for waiting in self)

    def __iter__(self) -> Iterator[Waiting]:
        """In the order in which they will run."""
        for group in reversed(self._groups):
            yield from group

    def get(self, request_id: int) -> Waiting | None:
        """The request with an id, if it is there."""
        return next((waiting for waiting in self if waiting.request.id == request_id), None)

    def split(self, group: Sequence[Waiting]) -> None:
        """Take a group whose step has failed; of one, if others of it were given up while the step ran."""
        half = len(group) // 2
        self._groups += [list(group[half:]), list(group[:half])]

    def pop(self) -> list[Waiting]:
        """The group to run next, without those that were given up; empty if there is none."""
        while self._groups:
            if group := self._groups.pop():
                return group
        return []

    def remove(self, request_id: int) -> bool:
        """Take a request out; whether it was there."""
        for group in self._groups:
            for index, waiting in enumerate(group):
                if waiting.request.id == request_id:
                    del group[index]
                    return True
        return False
