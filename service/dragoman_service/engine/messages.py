"""The messages between a front, which has calls and texts, and an engine, which has a model.

A front opens a call with `Open`, which asks for admission before the text is prepared. The engine answers with `Window`
or `Refused`. Once the text is prepared, the front sends `Expect` and submits requests, at most a window of them at a
time. Each request ends with `Finished` or `Failed`. A call ends when all expected requests have ended, or with
`Cancel` or `Refused`.

    Open ->                  <- Window(call, 4), or Refused
    Expect(call, 9, ...) ->  <- Refused, if the deadline cannot be met
    Submit(call, request) -> <- Progress, Finished, Failed; Window(call, +1) or (call, -1) as load falls or rises
    Cancel(call) ->          <- Failed(Cancelled) of each request that has not ended
                             <- Lost, if the engine is gone: all calls and requests of the front have ended with it

All messages can cross a process boundary (`wire.py`, `link.py`): they are plain values, deadlines are times of the
system's monotonic clock, and no message waits for an answer.
"""

from __future__ import annotations

from typing import NamedTuple

from dragoman_service.engine.request import Event, Request


class Open(NamedTuple):
    """Asks for the admission of a call."""

    call: int
    """Id from `Connection.new_id`."""
    client: str
    """Client of the call; admission is fair between clients."""
    window: int
    """Maximum number of requests at a time that the call can use. 0: it has none, is always admitted, and keeps the
    engine from being closed until it is cancelled."""


class Expect(NamedTuple):
    """Announces the requests of a call, once its text is prepared."""

    call: int
    requests: int
    """Number of requests that the call will submit in all."""
    work: int
    """Sum over these requests of source tokens times rows; an estimate."""
    deadline: float | None
    """Deadline of the call in seconds of the monotonic clock; None: no deadline."""


class Submit(NamedTuple):
    """Submits a request of a call."""

    call: int
    request: Request


class Cancel(NamedTuple):
    """Ends a call: its unfinished requests are cancelled."""

    call: int


class Window(NamedTuple):
    """Admits a call, or changes how many requests it may have in the engine at a time."""

    call: int
    change: int
    """Added to the window, which is 0 before the first answer; may be negative."""


class Refused(NamedTuple):
    """Ends a call: it was not admitted, or cannot meet its deadline."""

    call: int
    error: Exception
    """One of `dragoman_service.errors`."""


class Lost(NamedTuple):
    """The connection to the engine is lost, and with it all calls and requests of the connection."""

    error: Exception


Message = Open | Expect | Submit | Cancel
Answer = Window | Refused | Lost | Event
