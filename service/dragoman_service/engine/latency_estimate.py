"""How long decoding has taken so far, to tell what cannot be done in time. Durations are passed in."""

from __future__ import annotations

import math

from dragoman_service.engine.request import Request
from dragoman_service.errors import DeadlineExceeded, DeadlineUnreachable

_SMOOTHING = 0.05
"""Weight of the newest observation in a moving average."""
_ENOUGH = 20
"""Sentences that must have ended before anything is foretold."""
_RELAXATION = 0.9
_MOST_AT_ONCE = 4.0
"""An observation counts for at most this many times the average: a process that was stopped for a while, or a machine
that swapped, must not decide what is refused afterwards. What stays slow is believed within a few dozen steps."""

HOPELESS = 0.5
"""Work is refused if less than this part of its expected time is left. The margin is wide because sentences differ from
the average, and work that could be done must not be refused."""


class LatencyEstimate:
    """Moving averages of the duration of steps, by number of rows, and of steps for each source token."""

    def __init__(self) -> None:
        self._seconds: dict[int, float] = {}
        """Of a step, by the bit length of its number of rows."""
        self._steps_per_token = 0.0
        self._ended = 0

    def step(self, rows: int, seconds: float) -> None:
        """A step of so many rows has taken so long."""
        size = rows.bit_length()
        # Replaced, not changed: other threads look at it.
        known = self._seconds.get(size)
        seen = min(seconds, _MOST_AT_ONCE * known) if known else seconds
        self._seconds = {**self._seconds, size: _average(known, seen)}

    def ended(self, source_tokens: int, steps: int) -> None:
        """A sentence of so many source tokens was done after so many steps."""
        known = self._steps_per_token if self._ended else None
        self._steps_per_token = _average(known, steps / source_tokens)
        self._ended += 1

    def latest_start(self, request: Request) -> float:
        """When there is no sense in beginning with a request any more."""
        if request.deadline is None:
            return math.inf
        return request.deadline - HOPELESS * self.sentence_seconds(len(request.source), request.options.num_rows)

    def too_late(self, request: Request, now: float) -> DeadlineExceeded:
        """The error of a request that is given up.

        Refused work is never measured. If all work were refused, an estimate that was once too slow would never be
        corrected. So each refusal lowers the estimate a little.
        """
        assert request.deadline is not None
        if request.deadline <= now:
            return DeadlineExceeded("the deadline passed before the translation was done")
        self.relax()
        return DeadlineUnreachable(f"{request.deadline - now:.3f} s were left, too few for a sentence like this")

    def check_time(self, work: int, max_rows: int, seconds: float) -> None:
        """Raise DeadlineUnreachable if so much work, as `work_seconds` takes it, cannot be done in so many seconds."""
        expected = self.work_seconds(work, max_rows)
        if seconds < HOPELESS * expected:
            if seconds > 0:  # what comes too late says nothing about the estimate
                self.relax()
            raise DeadlineUnreachable(f"{seconds:.3f} s are left, and this is expected to take {expected:.3f} s")

    def relax(self) -> None:
        """Believe in somewhat shorter steps."""
        self._seconds = {size: seconds * _RELAXATION for size, seconds in self._seconds.items()}

    def sentence_seconds(self, source_tokens: int, rows: int) -> float:
        """What a sentence is expected to take with nobody beside it; 0 while too little is known."""
        return source_tokens * self._steps_per_token * self._step_seconds(rows)

    def work_seconds(self, work: int, max_rows: int) -> float:
        """What so many source tokens, each times the rows of its request, are expected to take in full batches."""
        return work / max_rows * self._steps_per_token * self._step_seconds(max_rows)

    def _step_seconds(self, rows: int) -> float:
        """Of the number of rows seen that is nearest from below: fewer rows than these are no slower."""
        if self._ended < _ENOUGH:
            return 0.0
        known = self._seconds
        smaller = [size for size in known if size <= rows.bit_length()]
        return known[max(smaller) if smaller else min(known)]


def _average(known: float | None, new: float) -> float:
    return new if known is None else known + _SMOOTHING * (new - known)
