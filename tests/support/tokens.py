"""Tokens and files of tokens for tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dragoman_service.server.access.token_file import change
from dragoman_service.server.access.tokens import Token, new_token, to_json


def entry(**changes: Any) -> dict[str, Any]:
    """A good entry of a file, with changes."""
    good = {"name": "shop", "id": "0" * 16, "sha256": "0" * 64, "scopes": ["translate"]}
    return {**good, "created": "2026-01-01T00:00:00+00:00", **changes}


def written(*tokens: Token) -> bytes:
    """A file with these tokens."""
    return json.dumps({"version": 1, "tokens": [to_json(token) for token in tokens]}).encode()


def add_token(path: Path, name: str, **rights: Any) -> str:
    """Make a token in a file. Returns the token."""
    text, token = new_token(name, **{"scopes": ("translate",), **rights})
    change(path, lambda tokens: [*tokens, token])
    return text


def revoke_token(path: Path, name: str) -> None:
    """Remove a token from a file."""
    change(path, lambda tokens: [token for token in tokens if token.name != name])


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """The metadata of a call with a token."""
    return (("authorization", f"Bearer {token}"),)
