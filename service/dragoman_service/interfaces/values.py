"""Values in the fields of a request over HTTP, which may be anything that JSON has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dragoman_service.errors import InvalidInput


def text_of(fields: Mapping[str, Any], name: str) -> str:
    """A text; empty if there is none. Raises InvalidInput."""
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise InvalidInput(name, value, "a text")
    return value


def texts_of(fields: Mapping[str, Any], name: str) -> list[str]:
    """One or more texts. Raises InvalidInput."""
    value = fields.get(name)
    texts: list[Any] = value if isinstance(value, list) else [value]
    for text in texts:
        if not isinstance(text, str):
            raise InvalidInput(name, text, "a text or a list of texts")
    return texts
