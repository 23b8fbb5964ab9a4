"""The holder of a token: what its calls may do, and how much is left of its quotas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dragoman_service.errors import (
    DeadlineUnreachable,
    Forbidden,
    Overloaded,
    QuotaExceeded,
    ShuttingDown,
    visible,
)
from dragoman_service.server.access.quotas import Lease, Quotas
from dragoman_service.server.access.tokens import Token
from dragoman_service.server.metrics import Metrics

_REFUSED_BEFORE_WORK = (Overloaded, DeadlineUnreachable, ShuttingDown)
"""Refusals that are not the caller's fault. Calls with invalid input count: they would be free tries otherwise. A call
that is refused in the middle counts: a stream has sent translations by then."""


class Caller:
    """The holder of a token. There is one for each token, however many calls it makes."""

    def __init__(self, token: Token, metrics: Metrics, quotas: Quotas) -> None:
        self.token = token
        self._quotas = quotas
        self.name = token.name
        self.models = None if token.models is None else frozenset(token.models)
        """Names of the models that it may use; None: all."""
        self.expires = None if token.expires is None else token.expires.timestamp()
        # Kept here, because a call that ends after its token was revoked must not make the series anew.
        self._requests = metrics.token_requests.labels(token.name)
        self._characters = metrics.token_characters.labels(token.name)
        self._quota_refusals = metrics.token_quota_refusals.labels(token.name)

    def check_scope(self, scope: str) -> None:
        """Raise Forbidden if the token lacks a scope."""
        if scope not in self.token.scopes:
            raise Forbidden(f"token {self.name} has no scope {scope}")

    def check_model(self, selector: str) -> None:
        """Raise Forbidden for NAME, NAME@VERSION or NAME@ALIAS of a model that the token may not use.

        The message does not tell whether there is such a model.
        """
        name = selector.partition("@")[0]
        if selector and self.models is not None and name not in self.models:
            there = ", ".join(sorted(self.models))
            raise Forbidden(f"token {self.name} may not use model {visible(name)!r}; it may use: {there}")

    @asynccontextmanager
    async def admitted(self, characters: int) -> AsyncIterator[None]:
        """A context in which a call runs that has so many characters. It counts in quotas and metrics.

        Raises:
            QuotaExceeded: a quota is used up. The call does not count then.
            InvalidInput: it has more characters than the quota ever allows.
        """
        try:
            lease = await self._quotas.take(self.token, characters)
        except QuotaExceeded:
            self._quota_refusals.inc()
            raise
        try:
            yield
        except _REFUSED_BEFORE_WORK as error:
            if error.after_work:
                self._end(lease, characters)
            else:
                lease.give_back()
            raise
        except BaseException:
            self._end(lease, characters)
            raise
        self._end(lease, characters)

    def _end(self, lease: Lease, characters: int) -> None:
        self._requests.inc()
        self._characters.inc(characters)
        lease.end()
