"""Requests that have not had their last event, and who wants to hear of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dragoman_service.engine.fair_queue import work_of
from dragoman_service.engine.observer import EngineObserver
from dragoman_service.engine.request import Event, Progress, Request

_log = logging.getLogger(__name__)

OnEvents = Callable[[Sequence[Event]], None]
"""Takes what a step decided about the requests that it was submitted with."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request, and who wants to know."""

    request: Request
    on_events: OnEvents
    submitted: float
    """In seconds of the engine's clock."""


class Pending:
    """The submissions of an engine, by request id. All but `tell` are to be called with the engine's condition held."""

    def __init__(self, condition: threading.Condition, observer: EngineObserver) -> None:
        self._condition = condition
        self._observer = observer
        self._submissions: dict[int, Submission] = {}
        self.rows = 0
        """Of all of them."""
        self.work = 0
        """Source tokens times rows, of all of them."""

    def __len__(self) -> int:
        return len(self._submissions)

    def __contains__(self, request_id: int) -> bool:
        return request_id in self._submissions

    def ids(self) -> list[int]:
        """Of all of them, in the order in which they came."""
        return list(self._submissions)

    def add(self, submission: Submission) -> None:
        """Take a submission, whose request id must not be in use."""
        self._submissions[submission.request.id] = submission
        self.rows += submission.request.options.num_rows
        self.work += work_of(submission.request)

    def tell(self, events: Sequence[Event]) -> None:
        """Tell observer and callers, without the lock; what they raise is theirs and must not hurt the others.

        Of requests that are not pending nobody wants to know: a step that hung may end after they were given up.
        """
        by_receiver: dict[OnEvents, list[Event]] = {}
        ended: list[Submission] = []
        for event in events:
            submission = self._submissions.get(event.request_id)
            if submission is None:
                continue
            by_receiver.setdefault(submission.on_events, []).append(event)
            if not isinstance(event, Progress):
                ended.append(submission)
            try:
                self._observer.event(submission.request, event)
            except Exception:
                _log.exception("the observer failed on an event of request %d", event.request_id)
        for on_events, received in by_receiver.items():
            try:
                on_events(received)
            except Exception:
                _log.exception("a callback failed on events of requests %s", [event.request_id for event in received])
        if ended:
            with self._condition:  # only now, so that `drain` returns after the last callback
                for submission in ended:
                    self._remove(submission)
                self._condition.notify_all()

    def _remove(self, submission: Submission) -> None:
        if self._submissions.pop(submission.request.id, None) is None:
            return
        self.rows -= submission.request.options.num_rows
        self.work -= work_of(submission.request)
