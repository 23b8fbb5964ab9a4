"""What can be seen of a scheduler from outside: immutable values, for the invariants and for whoever debugs."""

from __future__ import annotations

from dataclasses import dataclass

from oracle.active_requests import Running, Waiting


@dataclass(frozen=True, slots=True)
class WaitingRequest:
    """A request that has not joined the running batch yet."""

    request_id: int
    num_rows: int
    """Rows it will own."""
    source_length: int
    """Source tokens to encode."""


@dataclass(frozen=True, slots=True)
class RunningRequest:
    """A request that owns rows of the running batch."""

    request_id: int
    num_rows: int
    """Rows it must own, by its options."""
    rows: tuple[int, ...]
    """Rows it does own."""
    source_length: int
    """Valid positions of cross attention."""
    position: int
    """Position of its next step, which is also the number of self-attention positions cached."""
    max_length: int
    """Target tokens at most."""


@dataclass(frozen=True, slots=True)
class SchedulerSnapshot:
    """The state of a scheduler at one moment."""

    max_rows: int
    max_queue: int
    extent: int
    """One more than the highest row that is owned or a hole."""
    holes: tuple[int, ...]
    """Rows below the extent that were given back and not yet closed; the next plan does that."""
    cached_positions: int
    """Positions of self- and cross-attention that the rows owned have in the caches, as the scheduler counts them."""
    waiting: tuple[WaitingRequest, ...]
    """In the order in which they will join."""
    running: tuple[RunningRequest, ...]
    """In the order in which they joined."""
    suspects: tuple[WaitingRequest, ...] = ()
    """Those of a step that failed, in the order in which they will run again, before anybody else joins."""

    @property
    def rows_used(self) -> int:
        """Rows owned by running requests."""
        return sum(len(request.rows) for request in self.running)


def waiting_request(waiting: Waiting) -> WaitingRequest:
    """What is seen of a request in the queue."""
    request = waiting.request
    return WaitingRequest(request.id, request.options.num_rows, len(request.source))


def running_request(running: Running, position: int) -> RunningRequest:
    """What is seen of a request that owns rows, which are at `position`."""
    request = running.request
    return RunningRequest(
        request_id=request.id,
        num_rows=request.options.num_rows,
        rows=tuple(running.rows),
        source_length=len(request.source),
        position=position,
        max_length=request.max_length,
    )
