"""A request on its way through the scheduler: first in the queue, then on rows of the running batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_service.engine.request import Finished, Progress, Request, Timings
from oracle.plan import RowCopy, StepResult
from oracle.search.base import Search


@dataclass(slots=True)
class Waiting:
    """A request in the queue."""

    request: Request
    submitted: float
    """When it was added, in seconds of the engine's clock."""
    streamed: int = 0
    """Tokens that were told before, where it has run before."""


@dataclass(slots=True)
class Running:
    """A request that owns rows."""

    request: Request
    submitted: float
    search: Search
    rows: list[int]
    """The slot pool's own list: what the pool moves shows here."""
    streamed: int = 0
    """Tokens told."""
    steps: int = 0
    """Steps made, each a token of every hypothesis."""
    _next_progress: float = -math.inf
    _begun: bool = False
    _queue_seconds: float = 0.0
    _encode_seconds: float = 0.0
    _encoded: float = 0.0

    def copies(self, positions: Sequence[int]) -> list[RowCopy]:
        """What the search wants copied among its rows before the next step; `positions` are those of all rows."""
        rows = self.rows
        return [
            RowCopy(rows[source], rows[target], positions[rows[source]], False) for source, target in self.search.copies
        ]

    @property
    def watched(self) -> bool:
        """Whether what is fed next may be something else than the likeliest candidate, or somebody waits to see it."""
        return self.request.stream or not self.search.feeds_likeliest

    def advance(self, token_ids: Sequence[list[int]], log_probs: Sequence[list[float]], num_candidates: int) -> None:
        """Hand the search the candidates of its own rows, no more of them than it asked for.

        A neighbour may have had the step give more, `num_candidates`, and what comes of a request must not depend on
        its neighbours.
        """
        search = self.search
        rows = self.rows
        if len(rows) == 1:  # most requests are greedy, and comprehensions are slow to get started
            token_ids, log_probs = [token_ids[rows[0]]], [log_probs[rows[0]]]
        else:
            token_ids, log_probs = [token_ids[row] for row in rows], [log_probs[row] for row in rows]
        if num_candidates > search.num_candidates:
            token_ids = [candidates[: search.num_candidates] for candidates in token_ids]
            log_probs = [candidates[: search.num_candidates] for candidates in log_probs]
        search.advance(token_ids, log_probs)
        self.steps += 1

    def begin(self, result: StepResult, now: float) -> None:
        """Note the times of the first step; of later ones, nothing."""
        if self._begun:
            return
        self._begun = True
        self._encode_seconds = result.encode_seconds
        self._encoded = now - result.decode_seconds
        # The runner's clock need not be the engine's, hence max.
        self._queue_seconds = max(0.0, self._encoded - result.encode_seconds - self.submitted)

    def progress(self, now: float, interval: float) -> list[Progress]:
        """The tokens decided since the last event; once the search is done, all the rest of the best hypothesis.

        Until then nothing for `interval` seconds after an event: every message takes the processor from translating.
        """
        if self.search.done:
            tokens = self.search.hypotheses()[0].tokens[self.streamed :]
        elif now < self._next_progress or self.steps <= self.streamed:  # the latter where it has run before
            return []
        else:
            tokens = self.search.decided(self.streamed)
        if not tokens:
            return []
        self.streamed += len(tokens)
        self._next_progress = now + interval
        return [Progress(self.request.id, tokens)]

    def again(self) -> Waiting:
        """The request, to be run from its beginning: it will decide the same, and tell only what it has not told."""
        return Waiting(self.request, self.submitted, self.streamed)

    def finished(self, now: float) -> Finished:
        """The last event, at `now`, of a request whose search is done."""
        timings = Timings(queue=self._queue_seconds, encode=self._encode_seconds, decode=now - self._encoded)
        return Finished(self.request.id, self.search.hypotheses(), timings)
