"""Errors in the words that an interface's clients know."""

from __future__ import annotations

from dragoman_service.errors import DragomanError, InvalidInput


class Worded(InvalidInput):
    """A value that is not allowed, which is refused with a message as it is."""

    def __init__(self, field: str, message: str) -> None:
        DragomanError.__init__(self, message)
        self.field = field

    def rename(self, field: str) -> None:
        """Name the field otherwise. The message stays."""
        self.field = field
