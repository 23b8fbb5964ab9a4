"""Tokens: their format, what is kept of them, and what they allow."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from dragoman_service.bundle.manifest import NAME as MODEL_NAME
from dragoman_service.errors import InvalidInput

TRANSLATE = "translate"
"""Scope of the calls of `dragoman.v1`."""
ADMIN = "admin"
"""Scope of the calls of `dragoman.admin.v1`."""
GLOSSARIES = "glossaries"
"""Scope of the calls that change glossaries, beside `translate`."""
SCOPES = (TRANSLATE, ADMIN, GLOSSARIES)

MOST_PER_MINUTE = 10**12
"""Largest quota; more is a mistake, and no server could use it up."""

_ID_BYTES = 8
_SECRET_BYTES = 32
_TOKEN = re.compile(rf"dgm_([0-9a-f]{{{2 * _ID_BYTES}}})_[0-9a-f]{{{2 * _SECRET_BYTES}}}")
_ID = re.compile(rf"[0-9a-f]{{{2 * _ID_BYTES}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Names are labels of metrics and words of the log.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ANY_TOKEN = re.compile(r"dgm_\w*|[0-9A-Fa-f]{64,}")

_QUOTAS = ("requests_per_minute", "characters_per_minute", "concurrent")


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token: its hash and its rights, not the token."""

    name: str
    """Name of the holder, in metrics and in the log. No two tokens of a file have the same."""
    id: str
    """The part of the token that it is found by."""
    sha256: str
    """SHA-256 of the whole token, in hexadecimal."""
    scopes: tuple[str, ...]
    created: datetime
    models: tuple[str, ...] | None = None
    """Names of the models that it may use; None: all."""
    requests_per_minute: int | None = None
    """None: no limit, as for the other quotas."""
    characters_per_minute: int | None = None
    """Unicode code points of texts and target prefixes."""
    concurrent: int | None = None
    """Calls that may run at the same time."""
    expires: datetime | None = None
    """From this moment on it is refused; None: never."""

    def __post_init__(self) -> None:
        """Raise InvalidInput, whose field is that of this class, for the first value that is not allowed."""
        _check(_is_word(_NAME, self.name), "name", self.name, "1 to 64 of the characters A-Z a-z 0-9 . _ -")
        _check(_is_word(_ID, self.id), "id", self.id, f"{2 * _ID_BYTES} lower-case hexadecimal digits")
        # The value is not shown: messages go to the log.
        _check(_is_word(_SHA256, self.sha256), "sha256", "...", "64 lower-case hexadecimal digits")
        scopes = f"a list of one or more of {', '.join(SCOPES)}, each once"
        _check(_are_words(self.scopes) and set(self.scopes) <= set(SCOPES), "scopes", self.scopes, scopes)
        for name in _QUOTAS:
            value = getattr(self, name)
            allowed = f"a whole number from 1 to {MOST_PER_MINUTE}; leave it out for no limit"
            fits = value is None or (type(value) is int and 1 <= value <= MOST_PER_MINUTE)
            _check(fits, name, value, allowed)
        if self.models is not None:
            self._check_models(self.models)

    def _check_models(self, models: tuple[str, ...]) -> None:
        allowed = "a list of names of models without versions, each once; leave it out for all models"
        _check(_are_words(models) and all(_is_word(MODEL_NAME, model) for model in models), "models", models, allowed)
        # The admin interface changes all models, so such a token would not keep to its models.
        alone = f"none beside the scope {ADMIN}, which covers all models; make a second token for it"
        _check(ADMIN not in self.scopes, "models", models, alone)


def new_token(name: str, **rights: Any) -> tuple[str, Token]:
    """Make a token of 256 random bits. Returns it, and what to keep of it. Raises InvalidInput."""
    id_part = secrets.token_hex(_ID_BYTES)
    text = f"dgm_{id_part}_{secrets.token_hex(_SECRET_BYTES)}"
    now = datetime.now(UTC).replace(microsecond=0)
    return text, Token(name=name, id=id_part, sha256=digest(text), created=now, **rights)


def id_of(text: str) -> str | None:
    """The id within a token; None if `text` does not have the form of a token."""
    match = _TOKEN.fullmatch(text)
    return match[1] if match else None


def digest(text: str) -> str:
    """What is kept in place of a token.

    SHA-256 once, without salt, is enough. Slow, salted hashes are for passwords, which people choose so that they can
    be guessed. Nobody can try 2**256 secrets, whatever a trial costs.
    """
    return hashlib.sha256(text.encode()).hexdigest()


def redacted(text: str) -> str:
    """`text` without whatever may be a token or its hash, for messages about files into which one was pasted."""
    return _ANY_TOKEN.sub("(redacted)", text)


def to_json(token: Token) -> dict[str, Any]:
    """The entry of a token in the file."""
    entry: dict[str, Any] = {}
    for field in fields(Token):
        value = getattr(token, field.name)
        if value is not None:
            entry[field.name] = value.isoformat() if isinstance(value, datetime) else value
    return entry


def from_json(entry: Mapping[str, Any]) -> Token:
    """The token of an entry. Raises InvalidInput with the name of the field."""
    known = {field.name: field for field in fields(Token)}
    for name in entry:
        _check(name in known, name, entry[name], f"no such field; there are: {', '.join(known)}")
    values = dict(entry)
    for name in ("name", "id", "sha256", "scopes", "created"):
        _check(name in values, name, None, "this field is required")
    for name, value in values.items():
        # null would read like "none allowed", and mean "all allowed".
        _check(value is not None, name, value, "a value; leave the field out for no limit")
        if name in ("created", "expires"):
            values[name] = _moment(name, value)
        elif name in ("scopes", "models"):
            _check(isinstance(value, list), name, value, "a list")
            values[name] = tuple(value)
    return Token(**values)


def _moment(field: str, value: Any) -> datetime:
    allowed = "a moment with its time zone, such as 2030-12-31T00:00:00+00:00"
    try:
        moment = datetime.fromisoformat(value)
        _check(moment.tzinfo is not None, field, value, allowed)
        return moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise InvalidInput(field, _safe(value), allowed) from None


def _check(good: bool, field: str, value: object, allowed: str) -> None:
    if not good:
        raise InvalidInput(redacted(field), _safe(value), allowed)


def _safe(value: object) -> object:
    """The value as a message may show it."""
    shown = repr(value)
    return value if redacted(shown) == shown else "(redacted)"


def _is_word(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _are_words(values: tuple[object, ...]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values) and len(set(values)) == len(values)
