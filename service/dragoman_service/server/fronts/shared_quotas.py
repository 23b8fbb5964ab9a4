"""Quotas in one place for all fronts: the supervisor counts, and the fronts ask it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dragoman_service.errors import DragomanError, Overloaded
from dragoman_service.server.access.quotas import Lease, LocalQuotas
from dragoman_service.server.access.tokens import Token
from dragoman_service.server.fronts.control import Keep, Message, Returned, Take, Taken

ANSWER_SECONDS = 2.0
"""Seconds after which a call is refused for want of an answer."""


class AskedQuotas:
    """The quotas, as a front has them; see `access.quotas.Quotas`."""

    def __init__(self, send: Callable[[Message], None]) -> None:
        self._send = send
        self._numbers = itertools.count()
        self._waiting: dict[int, asyncio.Future[None]] = {}

    async def take(self, token: Token, characters: int) -> Lease:
        """See Quotas. Raises Overloaded, too, if the supervisor does not answer."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        self._send(Take(number, token, characters))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await answer
        except TimeoutError:
            self._give_up(number)
            raise Overloaded("the quotas cannot be looked up at the moment") from None
        except asyncio.CancelledError:
            self._give_up(number)
            raise
        return _AskedLease(self._send, number)

    def _give_up(self, number: int) -> None:
        """Nobody waits for an answer any more. One that comes later is undone by `taken`."""
        if self._waiting.pop(number, None) is None:  # it has come, at the same moment
            self._send(Returned(number, unused=True))

    def keep(self, tokens: Iterable[Token]) -> None:
        """See Quotas."""
        self._send(Keep(tuple(tokens)))

    def taken(self, message: Taken) -> None:
        """Take in an answer."""
        answer = self._waiting.pop(message.number, None)
        if answer is None or answer.done():
            if message.error is None:
                self._send(Returned(message.number, unused=True))
        elif message.error is None:
            answer.set_result(None)
        else:
            answer.set_exception(message.error)


@dataclass(frozen=True, slots=True, eq=False)
class _AskedLease:
    send: Callable[[Message], None]
    number: int

    def end(self) -> None:
        self.send(Returned(self.number, unused=False))

    def give_back(self) -> None:
        self.send(Returned(self.number, unused=True))


class QuotaDesk:
    """The quotas, as the supervisor has them for its fronts."""

    def __init__(self) -> None:
        self._quotas = LocalQuotas()
        self._leases: dict[str, dict[int, Lease]] = {}
        self._known: dict[str, tuple[Token, ...]] = {}

    def take(self, front: str, message: Take) -> Taken:
        """Answer a front."""
        try:
            lease = self._quotas.take_now(message.token, message.characters)
        except DragomanError as error:
            return Taken(message.number, error)
        self._leases.setdefault(front, {})[message.number] = lease
        return Taken(message.number)

    def returned(self, front: str, message: Returned) -> None:
        """End a lease of a front."""
        lease = self._leases.get(front, {}).pop(message.number, None)
        if lease is not None:
            (lease.give_back if message.unused else lease.end)()

    def keep(self, front: str, message: Keep) -> None:
        """Forget tokens that no front knows. One front may have read the file of tokens before the others."""
        self._known[front] = message.tokens
        self._quotas.keep(token for tokens in self._known.values() for token in tokens)

    def gone(self, front: str) -> None:
        """End the leases of a front that has ended. Its calls count."""
        for lease in self._leases.pop(front, {}).values():
            lease.end()
