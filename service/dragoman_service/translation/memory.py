"""The memory of a call."""

from __future__ import annotations

from typing import Protocol


class Memory(Protocol):
    """Is told of the memory that a call takes, beside that of its texts."""

    def add(self, amount: int) -> None:
        """Count `amount` more bytes, until the call ends. Raises Overloaded if there are not so many."""
        ...


class _Unlimited:
    def add(self, amount: int) -> None:
        pass


UNLIMITED: Memory = _Unlimited()
"""Counts nothing."""
