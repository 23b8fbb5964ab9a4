"""Results of the calls of a load, and figures computed from them. No input or output."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measure.common import percentile


@dataclass(frozen=True, slots=True)
class Search:
    """Options of the search, the same for all competitors."""

    beam_size: int
    max_length: int
    """Most target tokens."""
    length_penalty: float
    """Alpha; each engine has its own formula."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call. All times are seconds of the same clock."""

    sentence: int
    """Index of its sentence."""
    intended: float
    """When it should have been sent."""
    sent: float
    first: float
    """When the first text arrived; equals `done` if the reply is not streamed."""
    done: float
    source_tokens: int = 0
    target_tokens: int = 0
    text: str = ""
    error: str = ""
    """Name of the status code; empty if the call succeeded."""


@dataclass(slots=True)
class Load:
    """The calls of a load."""

    calls: list[Call] = field(default_factory=list)
    """In the order in which they ended."""
    client_cpu: float = 0.0
    """Seconds of processor time of the client."""
    client_wall: float = 0.0
    """Seconds of the load, measured at the client."""

    @property
    def answered(self) -> list[Call]:
        return [call for call in self.calls if not call.error]

    @property
    def errors(self) -> Counter[str]:
        """Number of failed calls, by status code."""
        return Counter(call.error for call in self.calls if call.error)

    @property
    def lag(self) -> float:
        """Seconds by which the client sent calls too late, 99th percentile."""
        return percentile([call.sent - call.intended for call in self.calls], 99)


@dataclass(frozen=True, slots=True)
class Rates:
    """Throughput per second, and latencies."""

    sentences: float
    source_tokens: float
    target_tokens: float
    p50: float
    """Median latency of a call in seconds; `p99` likewise."""
    p99: float


def steady_window(calls: Sequence[Call], skip: int, count: int) -> tuple[float, list[Call]]:
    """The `count` calls that ended after the first `skip` ones, and their seconds from the end of the last skipped one.

    Raises:
        ValueError: there are fewer calls.
    """
    if not 1 <= skip <= len(calls) - count:
        raise ValueError(f"calls: got {len(calls)}; allowed: more than {skip} + {count}, of which 1 or more skipped")
    ended = sorted(calls, key=lambda call: call.done)
    window = ended[skip : skip + count]
    return window[-1].done - ended[skip - 1].done, window


def rates(seconds: float, calls: Sequence[Call]) -> Rates:
    """The rates of calls that ended within `seconds`."""
    latencies = [call.done - call.intended for call in calls]
    return Rates(
        sentences=len(calls) / seconds,
        source_tokens=sum(call.source_tokens for call in calls) / seconds,
        target_tokens=sum(call.target_tokens for call in calls) / seconds,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
    )
