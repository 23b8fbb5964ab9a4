"""Answers whether a call may go on: who makes it, what its token allows, and how much is left of its quotas."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dragoman_service.errors import (
    DeadlineUnreachable,
    Forbidden,
    Overloaded,
    QuotaExceeded,
    ShuttingDown,
    Unauthenticated,
    visible,
)
from dragoman_service.server.access import token_file
from dragoman_service.server.access.quotas import Quotas
from dragoman_service.server.access.token_file import TokenFileError
from dragoman_service.server.access.tokens import Token, digest, id_of
from dragoman_service.server.call_lifecycle import Context
from dragoman_service.server.metrics import Metrics

AUTHORIZATION_KEY = "authorization"

_BEARER = re.compile(r"bearer +([!-~]{1,200})", re.IGNORECASE)
_NO_DIGEST = "0" * 64
"""Compared with when the id of a token is unknown: no token has this hash."""
_PERIOD = 0.5
"""Seconds between two looks at the file."""
_LOOKS_AGAIN = 3
"""Looks after a change that read the file although it seems unchanged: a second change may have had the same time."""
_REFUSED_BEFORE_WORK = (Overloaded, DeadlineUnreachable, ShuttingDown)
"""Refusals that are not the caller's fault. Calls with invalid input count: they would be free tries otherwise."""

_log = logging.getLogger(__name__)


class Caller:
    """The holder of a token. There is one for each token, however many calls it makes."""

    def __init__(self, token: Token, metrics: Metrics) -> None:
        self.token = token
        self.name = token.name
        self.models = None if token.models is None else frozenset(token.models)
        """Names of the models that it may use; None: all."""
        self.expires = None if token.expires is None else token.expires.timestamp()
        # Kept here, because a call that ends after its token was revoked must not make the series anew.
        self.requests = metrics.token_requests.labels(token.name)
        self.characters = metrics.token_characters.labels(token.name)
        self.quota_refusals = metrics.token_quota_refusals.labels(token.name)

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


class Gate:
    """Knows the tokens of a file and follows the file. Lives on one event loop, except for reading the file."""

    def __init__(self, path: Path, metrics: Metrics, quotas: Quotas, *, now: Callable[[], float] = time.time) -> None:
        """Read the file. `now` is the wall clock, by which tokens expire. Raises TokenFileError."""
        self._path = path
        self._metrics = metrics
        self._quotas = quotas
        self._now = now
        self._callers: dict[str, Caller] = {}
        self._seen: tuple[int, ...] = ()
        self._looks_left = 0
        self._data = b""
        self._problem = ""
        self._metrics.token_file_damaged.set(0)
        self._take_in(self._read() or ())

    def caller(self, context: Context) -> Caller:
        """Who makes a call, whatever the call is. Raises Unauthenticated without a valid token."""
        return self._caller(_token_of(context))

    def check(self, context: Context) -> None:
        """Raise Unauthenticated for a call without a valid token, whatever its scopes."""
        self.caller(context)

    @asynccontextmanager
    async def admitted(self, caller: Caller, characters: int) -> AsyncIterator[None]:
        """A context in which a call runs that has so many characters. It counts in quotas and metrics.

        Raises:
            QuotaExceeded: a quota is used up. The call does not count then.
            InvalidInput: it has more characters than the quota ever allows.
        """
        try:
            lease = await self._quotas.take(caller.token, characters)
        except QuotaExceeded:
            caller.quota_refusals.inc()
            raise
        try:
            yield
        except _REFUSED_BEFORE_WORK:
            lease.give_back()
            raise
        except BaseException:
            self._count(caller, characters)
            lease.end()
            raise
        self._count(caller, characters)
        lease.end()

    async def follow(self) -> None:
        """Read the file whenever it changes, for ever. If it cannot be read, the tokens stay as they are."""
        while True:
            await asyncio.sleep(_PERIOD)
            try:
                await self.look()
            except Exception:
                _log.exception("looking at the tokens in %s failed", self._path)

    async def look(self) -> None:
        """Read the file if it has changed."""
        try:
            tokens = await asyncio.to_thread(self._read)
        except TokenFileError as error:
            self._metrics.token_file_damaged.set(1)
            if str(error) != self._problem:
                self._problem = str(error)
                _log.warning("the tokens stay as they were: %s", error)
            return
        if self._problem:
            _log.warning("%s can be read again", self._path)
        self._problem = ""
        self._metrics.token_file_damaged.set(0)
        if tokens is not None:
            self._take_in(tokens)
            _log.info("%s has %d tokens", self._path, len(tokens))

    def _caller(self, text: str) -> Caller:
        known = self._callers.get(id_of(text) or "")
        # The time of the comparison tells nothing of the hash. An unknown id costs a comparison too.
        same = hmac.compare_digest(digest(text), known.token.sha256 if known else _NO_DIGEST)
        if not same or known is None:
            raise Unauthenticated("the token is unknown, or was revoked")
        if known.expires is not None and self._now() >= known.expires:
            raise Unauthenticated(f"token {known.name} expired at {known.token.expires:%Y-%m-%d %H:%M:%S} UTC")
        return known

    @staticmethod
    def _count(caller: Caller, characters: int) -> None:
        caller.requests.inc()
        caller.characters.inc(characters)

    def _read(self) -> tuple[Token, ...] | None:
        """The tokens, if the file may have changed since they were read. Raises TokenFileError."""
        seen = _signature(self._path)
        if seen != self._seen:
            self._looks_left = _LOOKS_AGAIN
        elif self._looks_left == 0 and not self._problem:
            return None
        data = token_file.read(self._path)
        tokens = None if data == self._data else token_file.parse(self._path, data)
        self._seen, self._data = seen, data
        self._looks_left = max(0, self._looks_left - 1)
        return tokens

    def _take_in(self, tokens: tuple[Token, ...]) -> None:
        callers = {token.id: Caller(token, self._metrics) for token in tokens}
        gone = {caller.name for caller in self._callers.values()} - {token.name for token in tokens}
        self._callers = callers
        self._quotas.keep(tokens)
        for name in gone:
            for counter in (
                self._metrics.token_requests,
                self._metrics.token_characters,
                self._metrics.token_quota_refusals,
            ):
                counter.remove_by_labels({"token": name})


def _token_of(context: Context) -> str:
    """The token that the metadata of a call has. Raises Unauthenticated. The message never has what came."""
    values = [value for key, value in context.invocation_metadata() or () if key == AUTHORIZATION_KEY]
    if not values:
        raise Unauthenticated("no token; allowed: metadata `authorization: Bearer TOKEN`")
    if len(values) > 1:
        raise Unauthenticated(f"{len(values)} entries `authorization`; allowed: one")
    match = _BEARER.fullmatch(values[0]) if isinstance(values[0], str) else None
    if match is None:
        raise Unauthenticated("metadata `authorization` has another form; allowed: `Bearer TOKEN`")
    return match[1]


def _signature(path: Path) -> tuple[int, ...]:
    """Differs when the file changes, or a link on the way to it, as those of Kubernetes. Raises TokenFileError."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise TokenFileError(f"{path}: {error.strerror}") from None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
