"""Settings of the engine of a model."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.errors import InvalidInput, at_least


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Threads, rows and queue of a model."""

    threads: int = 0
    """Threads that compute for each model, over all its lanes; 0 means one for each core."""
    lanes: int = 0
    """Running batches of each model, decoded in parallel, each on its own thread, with shared weights.

    The rows are divided among the lanes, and a request has all its rows in one lane. 0 means one lane for each thread,
    but at most 4, and at most as many as have rows for the widest beam. Threads beyond one for each lane help within
    steps.
    """
    max_rows: int = 64
    """Rows of all running batches of a model. A sentence takes `beam_size` rows, or one for each sample."""
    max_client_rows: int = 0
    """Rows of one client, over all lanes, while other clients are served; one sentence may exceed it. 0 means a quarter
    of `max_rows` on a CPU, but at least 8 in each lane, and all of them on a GPU."""
    max_queue: int = 1024
    """Maximum number of sentences of each model in the engine, waiting or running."""
    max_queue_tokens: int = 65_536
    """Source tokens of each model in the engine from which on no call is admitted and open calls slow down."""
    step_timeout: float = 60.0
    """Seconds after which a step counts as hanging. The server is then not live until the step ends."""
    stream_interval: float = 0.1
    """Minimum number of seconds between two pieces of a stream. A piece costs as much as decoding several tokens, and
    people do not read faster."""

    def __post_init__(self) -> None:
        at_least("threads", self.threads, 0)
        at_least("max_rows", self.max_rows, 1)
        if not 0 <= self.lanes <= self.max_rows:
            raise InvalidInput("lanes", self.lanes, f"0 to {self.max_rows} (no more than max_rows)")
        at_least("max_client_rows", self.max_client_rows, 0)
        at_least("max_queue", self.max_queue, 1)
        at_least("max_queue_tokens", self.max_queue_tokens, 1)
        if not 0 < self.step_timeout <= 86_400:
            raise InvalidInput("step_timeout", self.step_timeout, "above 0, at most 86400 seconds")
        if not 0 <= self.stream_interval <= 60:
            raise InvalidInput("stream_interval", self.stream_interval, "0 to 60 seconds")
