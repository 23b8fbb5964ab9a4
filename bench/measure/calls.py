"""What became of the calls of a load, and the figures drawn from them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.measure.common import percentile


@dataclass(frozen=True, slots=True)
class Search:
    """How to search; the same for all competitors."""

    beam_size: int
    max_length: int
    """Target tokens at most."""
    length_penalty: float
    """Alpha; each engine has its own formula."""


@dataclass(frozen=True, slots=True)
class Call:
    """One call; times are in seconds of one clock."""

    sentence: int
    """Its index."""
    intended: float
    """When it should have been sent."""
    sent: float
    first: float
    """When the first text was there; `done` where the answer comes whole."""
    done: float
    source_tokens: int = 0
    target_tokens: int = 0
    text: str = ""
    error: str = ""
    """The name of the status code; empty if it was answered."""


@dataclass(slots=True)
class Load:
    """A load and what came of it."""

    calls: list[Call] = field(default_factory=list)
    """In the order in which they ended."""
    client_cpu: float = 0.0
    """Seconds of processor time that the client took."""
    client_wall: float = 0.0
    """Seconds that the load took, measured at the client."""

    @property
    def answered(self) -> list[Call]:
        return [call for call in self.calls if not call.error]

    @property
    def errors(self) -> Counter[str]:
        """Calls without an answer, by status code."""
        return Counter(call.error for call in self.calls if call.error)

    @property
    def lag(self) -> float:
        """Seconds by which the client sent later than it should, 99th percentile."""
        return percentile([call.sent - call.intended for call in self.calls], 99)


@dataclass(frozen=True, slots=True)
class Rates:
    """What was done per second, and how long a call took."""

    sentences: float
    source_tokens: float
    target_tokens: float
    p50: float
    """Seconds."""
    p99: float


def steady_window(calls: Sequence[Call], skip: int, count: int) -> tuple[float, list[Call]]:
    """The `count` calls that ended after the first `skip`, and the seconds from the end of the last one skipped.

    Raises:
        ValueError: there are fewer calls.
    """
    if not 1 <= skip <= len(calls) - count:
        raise ValueError(f"calls: got {len(calls)}; allowed: more than {skip} + {count}, of which 1 or more skipped")
    ended = sorted(calls, key=lambda call: call.done)
    window = ended[skip : skip + count]
    return window[-1].done - ended[skip - 1].done, window


def rates(seconds: float, calls: Sequence[Call]) -> Rates:
    """The rates of calls that ended within so many seconds."""
    latencies = [call.done - call.intended for call in calls]
    return Rates(
        sentences=len(calls) / seconds,
        source_tokens=sum(call.source_tokens for call in calls) / seconds,
        target_tokens=sum(call.target_tokens for call in calls) / seconds,
        p50=percentile(latencies, 50),
        p99=percentile(latencies, 99),
    )
