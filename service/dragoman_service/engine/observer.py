"""What an engine tells about itself: counts for whoever asks, and an observer that is told of every step and event."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Event, Request


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counts at one moment, between two steps; totals are since the start of the engine."""

    waiting: int = 0
    """Requests accepted that have not joined the running batch."""
    running: int = 0
    """Requests in the running batch."""
    rows_used: int = 0
    """Rows owned by running requests."""
    max_rows: int = 0
    """Rows there are."""
    cached_positions: int = 0
    """Positions in use in the self- and cross-attention caches, over the rows owned."""
    max_queue: int = 0
    """Requests that may wait."""
    steps: int = 0
    """Total steps that succeeded."""
    failed_steps: int = 0
    """Total steps that did not."""
    tokens: int = 0
    """Total tokens fed to the decoder: one per row and step."""
    source_tokens: int = 0
    """Total source tokens encoded."""


class EngineObserver:
    """Told of what happens, on the engine thread: be quick. Whatever it raises is logged and does no harm.

    Subclass it and override what is of interest; what is not overridden does nothing.
    """

    def step(self, plan: StepPlan, result: StepResult, seconds: float, stats: EngineStats) -> None:
        """A step succeeded; `seconds` are from planning to the delivery of its events, `stats` are those after it."""

    def step_failed(self, error: Exception) -> None:
        """A step raised, which is logged already."""

    def event(self, request: Request, event: Event) -> None:
        """An event is about to be delivered."""


NO_OBSERVER = EngineObserver()
