"""What an engine counts: gauges of this moment, and totals and histograms since its start."""

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
    """How many values fell into each bucket, and their sum.

    One thread adds; another may copy at any time, and gets a sum that can lack the value that is being added.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Take the upper bounds of the buckets, ascending; values above the last one have a bucket of their own."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Count a value, so many times."""
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    @property
    def count(self) -> int:
        """Values counted."""
        return sum(self.counts)

    def __add__(self, other: Histogram) -> Histogram:
        """The histogram of the values of both, which have the same buckets."""
        result = Histogram(self.bounds)
        result.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]
        result.sum = self.sum + other.sum
        return result

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Histogram):
            return NotImplemented
        return (self.bounds, self.counts, self.sum) == (other.bounds, other.counts, other.sum)

    __hash__ = None  # type: ignore[assignment] # it changes

    def __repr__(self) -> str:
        return f"Histogram({dict(zip([*self.bounds, 'more'], self.counts, strict=True))}, sum={self.sum})"


@dataclass(slots=True)
class Totals:
    """What has been counted since the start of a lane, on its thread."""

    failed_steps: int = 0
    """Steps that raised."""
    source_tokens: int = 0
    """Of sentences translated, their ends included."""
    target_tokens: int = 0
    """Of their best translations, without the ends."""
    stopped: int = 0
    """Sentences translated whose best translation ended by itself."""
    cut: int = 0
    """Sentences translated whose best translation reached its maximum length."""
    encode_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Of a step, in the encoder; only steps that requests joined in."""
    decode_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Of a step, in the decoder."""
    schedule_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Of a step, everything else, the delivery of its events included."""
    step_rows: Histogram = field(default_factory=lambda: Histogram(ROW_BUCKETS))
    """Rows of a step."""
    queue_seconds: Histogram = field(default_factory=lambda: Histogram(QUEUE_BUCKETS))
    """Wait of a sentence for its rows."""
    token_seconds: Histogram = field(default_factory=lambda: Histogram(STEP_BUCKETS))
    """Mean time between a sentence's tokens."""

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
    """A snapshot: what an engine has at this moment, and its totals."""

    waiting: int = 0
    """Requests accepted that have not joined a running batch."""
    running: int = 0
    """Requests in the running batches."""
    rows_used: int = 0
    """Rows owned by running requests."""
    max_rows: int = 0
    """Rows there are."""
    cached_positions: int = 0
    """Positions in use in the self- and cross-attention caches, over the rows owned."""
    totals: Totals = field(default_factory=Totals)

    def __add__(self, other: EngineStats) -> EngineStats:
        return EngineStats(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(EngineStats)))
