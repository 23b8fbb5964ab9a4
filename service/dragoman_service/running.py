"""A request on its way through the scheduler: first in the queue, then on rows of the running batch."""

from __future__ import annotations

from dataclasses import dataclass

from dragoman_service.plan import RowCopy, StepResult
from dragoman_service.request import Finished, Progress, Request, Timings
from dragoman_service.search.base import Search


@dataclass(slots=True)
class Waiting:
    """A request in the queue."""

    request: Request
    submitted: float
    """When it was added, in seconds of the engine's clock."""


@dataclass(slots=True)
class Running:
    """A request that owns rows, all of them at the same position."""

    request: Request
    submitted: float
    search: Search
    rows: list[int]
    """The slot pool's own list: what the pool moves shows here."""
    position: int = 0
    """Position of the next step, which is also the number of self-attention positions cached."""
    _streamed: int = 0
    _queue_seconds: float = 0.0
    _encode_seconds: float = 0.0
    _encoded: float = 0.0

    def copies(self) -> list[RowCopy]:
        """What the search wants copied among its rows before the next step."""
        rows = self.rows
        return [RowCopy(rows[source], rows[target], self.position, False) for source, target in self.search.copies]

    def advance(self, result: StepResult, now: float) -> None:
        """Hand the search the candidates of its own rows, no more of them than it asked for.

        A neighbour may have asked for more, and what comes of a request must not depend on its neighbours.
        """
        if self.position == 0:
            self._encode_seconds = result.encode_seconds
            self._encoded = now - result.decode_seconds
            # The runner's clock need not be the engine's, hence max.
            self._queue_seconds = max(0.0, self._encoded - result.encode_seconds - self.submitted)
        self.position += 1
        wanted = self.search.num_candidates
        token_ids, log_probs = result.token_ids, result.log_probs
        self.search.advance(
            [token_ids[row][:wanted] for row in self.rows], [log_probs[row][:wanted] for row in self.rows]
        )

    def progress(self) -> list[Progress]:
        """The tokens decided since the last call; once the search is done, all the rest of the best hypothesis."""
        if not self.request.stream:
            return []
        if self.search.done:
            tokens = self.search.hypotheses()[0].tokens[self._streamed :]
        else:
            tokens = self.search.decided(self._streamed)
        self._streamed += len(tokens)
        return [Progress(self.request.id, tokens)] if tokens else []

    def finished(self, now: float) -> Finished:
        """The last event, at `now`, of a request whose search is done."""
        timings = Timings(queue=self._queue_seconds, encode=self._encode_seconds, decode=now - self._encoded)
        return Finished(self.request.id, self.search.hypotheses(), timings)
