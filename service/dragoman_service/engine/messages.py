"""The messages between a front, which has calls and texts, and an engine, which has a model. Values alone.

A call opens, which asks for admission before its text is looked at. The engine answers with a window or refuses. Once
its text is prepared, the call says what to expect, and submits requests, never more at a time than its window. Each
request ends with `Finished` or `Failed`. A call is over when as many requests as expected have ended, or with `Cancel`.

    Open ->                  <- Window(call, 4), or Refused
    Expect(call, 9, ...) ->  <- Refused, if the deadline cannot be met
    Submit(call, request) -> <- Progress, Finished, Failed; Window(call, +1) or (call, -1) as load falls or rises
    Cancel(call) ->          <- Failed(Cancelled) of each request that has not ended

All of it crosses a process boundary unchanged (`pipe.py`): values are pickled, deadlines are times of the system's
monotonic clock, and no message waits for an answer.
"""

from __future__ import annotations

from typing import NamedTuple

from dragoman_service.engine.request import Event, Request


class Open(NamedTuple):
    """Ask for admission of a call."""

    call: int
    """From `Connection.new_id`."""
    client: str
    """Whose call it is: admission is fair between clients."""
    window: int
    """Requests at a time that the call could make use of."""


class Expect(NamedTuple):
    """The call's text is prepared."""

    call: int
    requests: int
    """How many will be submitted in all."""
    work: int
    """Their source tokens, each times the rows of its request."""
    deadline: float | None
    """When the answer stops being of use, in seconds of the monotonic clock."""


class Submit(NamedTuple):
    """A request of a call."""

    call: int
    request: Request


class Cancel(NamedTuple):
    """The call is over: nothing more of it is wanted."""

    call: int


class Window(NamedTuple):
    """The call may have this many more requests in the engine at a time (fewer, if it is negative)."""

    call: int
    change: int


class Refused(NamedTuple):
    """The call is over: it was not admitted, or cannot be done."""

    call: int
    error: Exception
    """One of `dragoman_service.errors`."""


class Lost(NamedTuple):
    """The engine is gone, and all calls and requests with it."""

    error: Exception


Message = Open | Expect | Submit | Cancel
Answer = Window | Refused | Lost | Event
