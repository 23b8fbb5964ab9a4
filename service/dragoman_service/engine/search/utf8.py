"""Byte pieces: tokens that are single bytes of a character in UTF-8. They must form whole characters.

Few tokens are bytes. So nothing is forbidden beforehand: each step looks whether a new token tears a character apart.
A beam search drops such a child. Another request runs again, and is restricted from that token on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]

LONGEST = 4
"""Bytes of the longest character."""
_FEW = 16
"""Up to so many tokens are looked up faster in a list than in an array."""
_CONTINUATIONS = range(0x80, 0xC0)
_SECOND = {0xE0: range(0xA0, 0xC0), 0xED: range(0x80, 0xA0), 0xF0: range(0x90, 0xC0), 0xF4: range(0x80, 0x90)}
"""Lead byte -> second bytes, where not all continuations are allowed (RFC 3629, section 4)."""


def length_of(lead: int) -> int:
    """Number of bytes of the character that a byte begins; 0 if it begins none."""
    if lead < 0x80:
        return 1
    return 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0


@dataclass(frozen=True)
class BytePieces:
    """The byte pieces of a vocabulary."""

    byte_of: Mapping[int, int]
    """Token -> byte."""

    def contains_one(self, tokens: npt.NDArray[Any]) -> bool:
        """Whether any of an array of tokens is a byte piece."""
        if not self.byte_of:
            return False
        if len(tokens) <= _FEW:
            return not self.byte_of.keys().isdisjoint(tokens.tolist())
        return bool(np.count_nonzero(self._table[np.minimum(tokens, len(self._table) - 1)]))

    @cached_property
    def _table(self) -> Bools:
        """[largest byte piece + 2], whether a token is a byte piece. The last entry is False."""
        table = np.zeros(max(self.byte_of) + 2, np.bool_)
        table[list(self.byte_of)] = True
        return table

    def unfinished(self, tokens: Sequence[int]) -> tuple[int, ...]:
        """The bytes of the unfinished character with which tokens end. They form whole characters before it."""
        found: list[int] = []
        for token in tokens[: -LONGEST - 1 : -1]:
            byte = self.byte_of.get(token)
            if byte is None:
                return ()
            found.append(byte)
            if byte not in _CONTINUATIONS:
                return tuple(reversed(found)) if length_of(byte) > len(found) else ()
        return ()

    def fits(self, tokens: Sequence[int], token: int) -> bool:
        """Whether a token may follow others: it neither leaves a character unfinished nor is a byte of none."""
        unfinished, byte = self.unfinished(tokens), self.byte_of.get(token)
        if unfinished:
            return byte is not None and byte in _next(unfinished)
        return byte is None or length_of(byte) > 0

    def whole(self, tokens: Sequence[int]) -> int:
        """Number of tokens without an unfinished character at their end."""
        return len(tokens) - len(self.unfinished(tokens))


NO_BYTE_PIECES = BytePieces({})


@dataclass(frozen=True)
class WholeCharacters:
    """A restriction (see `restrictions`): from token `start` on, bytes must form whole characters."""

    pieces: BytePieces
    start: int

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> Bools | None:
        """See `restrictions.Restriction`."""
        if len(tokens) < self.start:
            return None
        unfinished = self.pieces.unfinished(tokens[-LONGEST:].tolist())
        mask = np.full(vocab_size, not unfinished)
        for token, byte in self.pieces.byte_of.items():
            mask[token] = byte in _next(unfinished) if unfinished else length_of(byte) > 0
        return mask


def _next(unfinished: Sequence[int]) -> range:
    """The bytes that may follow an unfinished character."""
    return _SECOND.get(unfinished[0], _CONTINUATIONS) if len(unfinished) == 1 else _CONTINUATIONS
