"""Counts of an engine: current gauges, and totals and histograms since its start."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from dragoman_service.engine.request import Finished, FinishReason, Request

# Steps and tokens of small models take well under a millisecond, whole documents many seconds.
STEP_BUCKETS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024)
"""Upper bounds in seconds."""
QUEUE_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
"""Upper bounds in seconds."""
ROW_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Histogram:
    """Number of values in each bucket, and the sum of all values.

    One thread adds values. Other threads may copy the histogram; a copy may lack the value that is being added.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` are the upper bounds of the buckets, ascending. Values above the last have a bucket of their own."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value `times` times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """Number of values."""
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        """The histogram of the values of both, which must have the same buckets."""
        result = Histogram(self.bounds)
        result.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        result.sum = self.sum + other.sum
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (self.bounds, self.counts, self.sum) == (other.bounds, other.counts, other.sum)

    __hash__ = None  # type: ignore[assignment] # mutable

    def __repr__(self) -> str:
        return f"Histogram({dict(zip([*self.bounds, 'more'], self.counts, strict=True))}, sum={self.sum})"


@dataclass(slots=True)
class Totals:
    """Counts since the start of a lane. Only the lane's thread changes them."""

    failed_steps: int = 0
    """Steps that raised."""
    interrupted: int = 0
    """Interruptions of requests for those of other clients."""
    source_tokens: int = 0
    """Source tokens of translated sentences, with the ends of sentences."""
    target_tokens: int = 0
    """Target tokens of their best translations, without the ends of sentences."""
    stopped: int = 0
    """Translated sentences whose best translation has an end of sentence."""
    cut: int = 0
    """Translated sentences whose best translation was cut, usually at its maximum length."""
    encode_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Seconds of a step in the encoder; only steps in which requests joined."""
    decode_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Seconds of a step in the decoder."""
    schedule_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Seconds of a step outside encoder and decoder, with the delivery of its events."""
    step_rows: Histogram = field(default_factory=lambda: Histogram(ROW_BUCKETS))
    """Rows of a step."""
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(QUEUE_BUCKETS))
    """Seconds that a sentence waited for its rows."""
    token_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Mean seconds between the tokens of a sentence."""

    def finished(self, request: Request, event: Finished) -> None:
        """Count a sentence that was translated."""
        best = event.hypotheses[0]
        self.queue_seconds.add(event.timings.queue)
        self.token_seconds.add(event.timings.decode / max(1, len(best.tokens)))
        self.source_tokens += len(request.source)
        self.target_tokens += len(best.tokens)
        if best.finish_reason is FinishReason.STOP:
            self.stopped += 1
        else:
            self.cut += 1

    @property
    def steps(self) -> int:
        """Steps that succeeded."""
        return self.step_rows.count

    def __add__(self, other: Totals) -> Totals:
        return Totals(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Totals)))


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A snapshot of the current counts of an engine, and its totals."""

    waiting: int = 0
    """Accepted requests that have not joined a running batch."""
    running: int = 0
    """Requests in the running batches."""
    rows_used: int = 0
    """Rows owned by running requests."""
    max_rows: int = 0
    """Rows of all lanes."""
    cached_positions: int = 0
    """Positions in use in the self- and cross-attention caches, summed over the owned rows."""
    totals: Totals = field(default_factory=Totals)

    def __add__(self, other: EngineStats) -> EngineStats:
        return EngineStats(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(EngineStats)))
