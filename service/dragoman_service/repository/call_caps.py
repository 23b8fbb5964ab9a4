"""What an operator lets a call ask of a model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dragoman_service.engine.request import MAX_BEAM_SIZE
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class CallCaps:
    """Limits of an operator on the calls to a model, below those of the model itself."""

    max_beam_size: int = MAX_BEAM_SIZE
    """Maximum beam size."""
    max_hypotheses: int = MAX_BEAM_SIZE
    """Maximum number of translations of a text that a call may ask for."""
    max_length: int = 0
    """Maximum number of target tokens of a sentence; 0: what the model allows."""
    max_call_work: int = 0
    """Maximum work of a call: source tokens of all its sentences times the rows of each; 0: no limit."""
    default_deadline: float = 0.0
    """Seconds that a call without a deadline may take; 0: no limit."""
    max_deadline: float = 0.0
    """Most seconds that a call may take. A later deadline counts as this one; 0: no limit."""

    def __post_init__(self) -> None:
        for name in ("max_beam_size", "max_hypotheses"):
            if not 1 <= getattr(self, name) <= MAX_BEAM_SIZE:
                raise InvalidInput(name, getattr(self, name), f"1 to {MAX_BEAM_SIZE}")
        for name in ("max_length", "max_call_work"):
            if getattr(self, name) < 0:
                raise InvalidInput(name, getattr(self, name), "1 or more, or 0 for no limit")
        for name in ("default_deadline", "max_deadline"):
            if not 0 <= getattr(self, name) <= 86_400:
                raise InvalidInput(name, getattr(self, name), "above 0, at most 86400 seconds, or 0 for no limit")
        if self.max_deadline and self.default_deadline > self.max_deadline:
            raise InvalidInput(
                "default_deadline", self.default_deadline, f"at most max_deadline, {self.max_deadline:g}"
            )

    def seconds(self, asked: float | None) -> float | None:
        """The seconds that a call may take which asks for `asked`; None: no limit."""
        most = self.max_deadline or math.inf
        seconds = min(most, asked if asked is not None else self.default_deadline or most)
        return None if seconds == math.inf else seconds
