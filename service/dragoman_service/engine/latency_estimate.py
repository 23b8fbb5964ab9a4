"""Deadline admission: a request that cannot finish before its deadline is rejected before any work is done.

The estimate learns from measured durations, which are passed in.
"""

from __future__ import annotations

import math

from dragoman_service.engine.request import Request
from dragoman_service.errors import DeadlineExceeded, DeadlineUnreachable

_SMOOTHING = 0.05
"""Weight of the newest observation in a moving average."""
_ENOUGH = 20
"""Number of sentences that must have ended before there is an estimate."""
_RELAXATION = 0.9
"""Factor on the step durations after each refusal."""
_MOST_AT_ONCE = 4.0
"""Limit of an observation, as a multiple of the average. One slow step, for example of a process that was stopped or of
a machine that swapped, must not cause refusals. A lasting slowdown raises the average within a few dozen steps."""

HOPELESS = 0.5
"""Work is refused if less than this fraction of its expected time is left. The margin is wide because sentences differ
from the average, and work that can be done must not be refused."""


class LatencyEstimate:
    """Moving averages of the duration of a step, by number of rows, and of the steps per source token."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        """Bit length of the number of rows -> average seconds of a step."""
        self._steps_per_token = 0.0
        self._ended = 0

    def step(self, rows: int, seconds: float) -> None:
        """Learn from a step."""
        size = rows.bit_length()
        # Replaced, not changed: other threads read it.
        known = self._seconds.get(size)
        seen = min(seconds, _MOST_AT_ONCE * known) if known else seconds
        self._seconds = {**self._seconds, size: _average(known, seen)}

    def ended(self, source_tokens: int, steps: int) -> None:
        """Learn from a sentence that ended after `steps` steps."""
        known = self._steps_per_token if self._ended else None
        self._steps_per_token = _average(known, steps / source_tokens)
        self._ended += 1

    def latest_start(self, request: Request) -> float:
        """The time after which a request that has not begun is rejected; infinity without a deadline."""
        if request.deadline is None:
            return math.inf
        return request.deadline - HOPELESS * self.sentence_seconds(len(request.source), request.options.num_rows)

    def too_late(self, request: Request, now: float) -> DeadlineExceeded:
        """Return the error for a request that is rejected at `now`, and lower the estimate if its deadline is to come.

        Refused work is never measured. If all work were refused, an estimate that is too high would never be corrected.
        So each refusal lowers the estimate a little.
        """
        assert request.deadline is not None
        if request.deadline <= now:
            return DeadlineExceeded("the deadline passed before the translation was done")
        self.relax()
        return DeadlineUnreachable(f"{request.deadline - now:.3f} s were left, too few for a sentence like this")

    def check_time(self, work: int, max_rows: int, seconds: float) -> None:
        """Raise DeadlineUnreachable if `work`, as for `work_seconds`, cannot be done within `seconds`."""
        expected = self.work_seconds(work, max_rows)
        if seconds < HOPELESS * expected:
            if seconds > 0:  # a deadline that has passed says nothing about the estimate
                self.relax()
            raise DeadlineUnreachable(f"{seconds:.3f} s are left, and this is expected to take {expected:.3f} s")

    def relax(self) -> None:
        """Lower the estimated duration of steps."""
        self._seconds = {size: seconds * _RELAXATION for size, seconds in self._seconds.items()}

    def sentence_seconds(self, source_tokens: int, rows: int) -> float:
        """Expected seconds of a sentence that runs alone; 0 while there are too few measurements."""
        return source_tokens * self._steps_per_token * self._step_seconds(rows)

    def work_seconds(self, work: int, max_rows: int) -> float:
        """Expected seconds of `work` (source tokens times rows) in full batches; 0 while measurements are too few."""
        return work / max_rows * self._steps_per_token * self._step_seconds(max_rows)

    def _step_seconds(self, rows: int) -> float:
        """Average seconds of a step with the nearest measured size that is not larger, else with the smallest size."""
        if self._ended < _ENOUGH:
            return 0.0
        known = self._seconds
        smaller = [size for size in known if size <= rows.bit_length()]
        return known[max(smaller) if smaller else min(known)]


def _average(known: float | None, new: float) -> float:
    return new if known is None else known + _SMOOTHING * (new - known)
