"""The parts of a file that are translated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


class FileError(ValueError):
    """A file is not what its format says."""


@dataclass(frozen=True, slots=True)
class Unit:
    """Characters `start` to `end` of a file, and what they say."""

    start: int
    end: int
    text: str
    write: Callable[[str], str] = str
    """From a translation of `text` to what replaces the characters."""
    unchanged: str | None = None
    """The translation that leaves the characters as they are; None: `text`."""
