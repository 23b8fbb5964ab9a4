"""Between the fields of DeepL's requests about documents and those of `dragoman.v1`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput
from dragoman_service.interfaces.deepl import mapping
from dragoman_service.interfaces.values import text_of

QUEUED, TRANSLATING, DONE, ERROR = "queued", "translating", "done", "error"
"""What is said of a document."""


def template_of(fields: Mapping[str, Any], name: str) -> pb.TranslateRequest:
    """How the texts of the document `name` are to be translated. Raises InvalidInput."""
    wanted, given = text_of(fields, "output_format").lower(), PurePath(name).suffix.lower().removeprefix(".")
    if wanted and wanted != given:
        raise InvalidInput("output_format", wanted, f"{given}, the format of the document")
    template = mapping.translation_of({**fields, "text": ""})
    template.ClearField("texts")
    return template


def status_of(
    name: str, status: str, *, done: int, texts: int, seconds: float, characters: int, error: str
) -> dict[str, Any]:
    """What is said of a document.

    Args:
        name: Its id.
        status: One of those above.
        done: Number of its texts that are translated.
        texts: Number of its texts; 0: not known yet.
        seconds: Since it came.
        characters: Of its texts.
        error: Why it has failed.
    """
    found: dict[str, Any] = {"document_id": name, "status": status}
    if status == TRANSLATING and done:
        found["seconds_remaining"] = max(1, math.ceil(seconds * (texts - done) / done))
    if status == DONE:
        found["billed_characters"] = characters
    if status == ERROR:
        found["error_message"] = error
    return found
