"""What the server and the process of a document send each other: a length of 8 bytes, and so many bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")

_MOST_VALUES = 1_000
_MOST_CHARACTERS = 100_000
LENGTH = struct.Struct(">Q")


def framed(data: bytes) -> bytes:
    """A message with its length."""
    return LENGTH.pack(len(data)) + data


def in_parts(values: Sequence[T], characters: Callable[[T], int]) -> Iterator[Sequence[T]]:
    """Values in parts of at most so many values, and about so many characters, that a part is read in milliseconds."""
    start = size = 0
    for number, value in enumerate(values):
        size += characters(value)
        if number + 1 - start == _MOST_VALUES or size >= _MOST_CHARACTERS:
            yield values[start : number + 1]
            start, size = number + 1, 0
    if start < len(values):
        yield values[start:]
