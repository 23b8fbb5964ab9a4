"""Answers who makes a call, by its token, and follows the file of tokens."""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

from dragoman_service.errors import Unauthenticated
from dragoman_service.server.access import token_file
from dragoman_service.server.access.caller import Caller
from dragoman_service.server.access.quotas import Quotas
from dragoman_service.server.access.token_file import TokenFileError
from dragoman_service.server.access.tokens import Token, digest, id_of
from dragoman_service.server.call_lifecycle import Answering, Context
from dragoman_service.server.metrics import Metrics

AUTHORIZATION_KEY = "authorization"
GOOGLE_KEY = "x-goog-api-key"
"""Where Google's clients have an API key."""

_FORMS = {
    AUTHORIZATION_KEY: (re.compile(r"bearer +([!-~]{1,200})", re.IGNORECASE), "Bearer TOKEN"),
    GOOGLE_KEY: (re.compile(r"([!-~]{1,200})"), "TOKEN"),
}
"""Key of metadata -> the form of its value, as an expression and for people. One of them is allowed."""
_NO_DIGEST = "0" * 64
"""Compared with when the id of a token is unknown: no token has this hash."""
_PERIOD = 0.5
"""Seconds between two looks at the file."""
_LOOKS_AGAIN = 3
"""Looks after a change that read the file although it seems unchanged: a second change may have had the same time."""

_log = logging.getLogger(__name__)


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

    def identify(self, call: Answering, scope: str) -> None:
        """Say who makes a call that needs a scope.

        Raises:
            Unauthenticated: no token, or not a valid one.
            Forbidden: the token lacks the scope.
        """
        call.caller = self.caller(call.context)
        call.client = call.caller.name
        call.caller.check_scope(scope)

    def client_of(self, context: Context) -> str:
        """The client of a call that needs a token, whatever its scopes. Raises Unauthenticated."""
        return self.caller(context).name

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
        callers = {token.id: Caller(token, self._metrics, self._quotas) for token in tokens}
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
    # The client of Riva sends the same entry twice over TLS.
    entries = {(key, value) for key, value in context.invocation_metadata() or () if key in _FORMS}
    if not entries:
        raise Unauthenticated("no token; allowed: metadata `authorization: Bearer TOKEN`")
    if len(entries) > 1:
        keys = " and ".join(f"`{key}`" for key in sorted({key for key, _ in entries}))
        raise Unauthenticated(f"{len(entries)} different entries {keys}; allowed: one")
    ((key, value),) = entries
    form, shown = _FORMS[key]
    match = form.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise Unauthenticated(f"metadata `{key}` has another form; allowed: `{shown}`")
    return match[1]


def _signature(path: Path) -> tuple[int, ...]:
    """Differs when the file changes, or a link on the way to it, as those of Kubernetes. Raises TokenFileError."""
    try:
        found = os.stat(path)
    except OSError as error:
        raise TokenFileError(f"{path}: {error.strerror}") from None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
