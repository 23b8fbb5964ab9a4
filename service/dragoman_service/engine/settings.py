"""How a model's requests are decoded side by side."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.errors import InvalidInput, at_least


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Threads, rows and queue of a model."""

    threads: int = 0
    """Threads that compute for each model, in all its lanes; 0 is one for each core."""
    lanes: int = 0
    """Running batches of each model that run side by side, each on a thread of its own, with the same weights.

    Rows and queue are divided among them, and a request has all its rows in one. 0 is one for each thread, but at most
    4, and no more than leave each the rows of the widest beam; threads beyond the lanes help inside their steps.
    """
    max_rows: int = 64
    """Rows of a model's running batches: sentences decoded side by side, each taking `beam_size` rows."""
    max_queue: int = 1024
    """Sentences of each model in the engine at once, waiting or running; more are refused."""
    max_queue_tokens: int = 65_536
    """Source tokens of each model in the engine at once; beyond them no call begins, and those that run slow down."""
    step_timeout: float = 60.0
    """Seconds of one step after which an engine is taken to hang, and the server says that it is not alive."""
    stream_interval: float = 0.1
    """Seconds between two pieces of a stream, at least: nobody reads faster, and a piece costs as much as decoding
    several tokens."""

    def __post_init__(self) -> None:
        at_least("threads", self.threads, 0)
        at_least("max_rows", self.max_rows, 1)
        if not 0 <= self.lanes <= self.max_rows:
            raise InvalidInput("lanes", self.lanes, f"0 to {self.max_rows} (no more than max_rows)")
        at_least("max_queue", self.max_queue, 1)
        at_least("max_queue_tokens", self.max_queue_tokens, 1)
        if not 0 < self.step_timeout <= 86_400:
            raise InvalidInput("step_timeout", self.step_timeout, "above 0, at most 86400 seconds")
        if not 0 <= self.stream_interval <= 60:
            raise InvalidInput("stream_interval", self.stream_interval, "0 to 60 seconds")
