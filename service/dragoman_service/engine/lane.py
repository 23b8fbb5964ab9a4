"""A lane: one thread that owns a scheduler and a runner, and performs the steps of one running batch."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from dragoman_service.engine.fair_queue import work_of
from dragoman_service.engine.plan import Runner, StepPlan, StepResult
from dragoman_service.engine.request import Event, Failed, Finished, Progress, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.engine.stats import EngineStats, Totals
from dragoman_service.errors import Cancelled, EngineFailure, ShuttingDown

MAX_CONSECUTIVE_FAILURES = 3
"""Number of consecutive failed probes after which a lane dies. A probe is a step without requests, made after each
request that failed alone. A successful step or probe resets the count."""

CLOSE_SECONDS = 10.0
"""Seconds that `close` waits for the running step. A step that hangs cannot be stopped."""

OnEvents = Callable[[Sequence[Event]], None]
"""Callback that takes the events of one step for the requests that were submitted with it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submission:
    request: Request
    on_events: OnEvents
    submitted: float
    """Time of submission in seconds of the lane's clock."""


class Lane:
    """Runs requests through a running batch on a thread of its own.

    Locking: `_condition` guards what several threads change: `_inbox`, `_pending`, their counts, and the flags.
    Scheduler, runner and totals belong to the lane's thread and are used without the lock. Callbacks are called without
    the lock, so they may call `submit`, `cancel` and `stats`. They must not call `drain` or `close`, which wait for the
    lane's thread.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        *,
        clock: Callable[[], float] = time.monotonic,
        step_timeout: float = math.inf,
    ) -> None:
        """Make a lane that is not started and owns scheduler and runner.

        Args:
            scheduler: Without requests.
            runner: Closed by the lane.
            clock: Seconds; deadlines of requests are times of this clock.
            step_timeout: Seconds after which a step counts as hanging. The lane is unhealthy until the step ends.
        """
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="dragoman-lane", daemon=True)
        self._step_timeout = step_timeout
        self._step_started = math.inf
        self._prepared = threading.Event()
        self._prepare_error: BaseException | None = None
        self._condition = threading.Condition()
        self._inbox: list[_Submission | int] = []  # requests to add, and ids of requests to cancel
        self._pending: dict[int, _Submission] = {}  # request id -> submission, until the final event
        self._rows = self._work = 0  # of the pending requests
        self._delivering = 0  # number of `_deliver` calls in progress
        self._totals = Totals()
        self._healthy = True
        self._draining = self._closing = False
        self._failures_in_a_row = 0

    @property
    def healthy(self) -> bool:
        """False once the lane has died, or while a step hangs. True for a lane that is not started."""
        return self._healthy and self._clock() - self._step_started <= self._step_timeout

    @property
    def rows(self) -> int:
        """Rows of all requests that have not ended. Any thread may read it, without a lock."""
        return self._rows

    @property
    def backlog_seconds(self) -> float:
        """Expected seconds until all requests that have not ended are done; 0 while there are too few measurements."""
        return self._scheduler.latency.work_seconds(self._work, self._scheduler.max_rows)

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable if this lane, without other requests, cannot do `work` within `seconds`.

        `work` is the sum over requests of source tokens times rows.
        """
        self._scheduler.latency.check_time(work, self._scheduler.max_rows, seconds)

    def start(self) -> None:
        """Start the thread and wait until the runner is prepared. Requests may be submitted before.

        To be called once. Raises what `Runner.prepare` raises; after that, the lane can only be closed.
        """
        self._thread.start()
        self._prepared.wait()
        if self._prepare_error is not None:
            raise self._prepare_error

    def submit(self, request: Request, on_events: OnEvents) -> None:
        """Accept a request. Any thread may call it.

        `on_events` is called with the events of the request: any number of `Progress`, then one `Finished` or `Failed`.
        Events of one step for requests with equal `on_events` come in one call. The calls are made on the lane's
        thread, except that `close` makes them on its own thread if the lane is not started or a step hangs. `on_events`
        must be quick; exceptions that it raises are logged and dropped.

        Raises, without calling `on_events`: `InvalidInput` for a request that can never run, `ShuttingDown` after
        `drain` or `close`, `EngineFailure` after the lane has died, `ValueError` for an id in use.
        """
        self._scheduler.validate(request)
        submission = _Submission(request, on_events, self._clock())
        with self._condition:
            if not self._healthy:
                raise EngineFailure("the engine has died")
            if self._draining:
                raise ShuttingDown("the server is shutting down and takes no new work")
            if request.id in self._pending:
                raise ValueError(f"request id {request.id} is in use")
            self._pending[request.id] = submission
            self._rows += request.options.num_rows
            self._work += work_of(request)
            self._inbox.append(submission)
            self._condition.notify_all()

    def cancel(self, request_id: int) -> None:
        """End a request with `Failed(Cancelled)`; its rows are free before the next step. Any thread may call it.

        Does nothing if the request has ended.
        """
        with self._condition:
            if request_id in self._pending:
                self._inbox.append(request_id)
                self._condition.notify_all()

    def stats(self) -> EngineStats:
        """Current counts. Any thread may call it."""
        scheduler = self._scheduler
        running = scheduler.num_running if self._pending else 0
        return EngineStats(
            waiting=max(0, len(self._pending) - running),
            running=running,
            rows_used=scheduler.rows_used if running else 0,
            max_rows=scheduler.max_rows,
            cached_positions=scheduler.cached_positions if running else 0,
            totals=self._totals + Totals(),
        )

    def drain(self, timeout: float) -> bool:
        """Refuse new requests and wait at most `timeout` seconds for accepted ones; returns whether all have ended."""
        with self._condition:
            self._draining = True
            return self._condition.wait_for(lambda: not (self._pending or self._delivering), timeout)

    def close(self) -> None:
        """End the thread after its current step, fail pending requests with `ShuttingDown`, and close the runner."""
        with self._condition:
            if self._closing:
                return
            self._draining = self._closing = True
            self._condition.notify_all()
        if self._thread.ident is None:
            self._fail_pending(ShuttingDown("the server stopped before the translation began"))
            self._runner.close()
        else:
            self._thread.join(CLOSE_SECONDS)
            if self._thread.is_alive():
                _log.error("a step hangs and cannot be stopped: its thread and memory are kept until it ends")
                self._fail_pending(EngineFailure("a step hangs"))

    def _run(self) -> None:
        """Main function of the thread. It closes the runner, because `close` does not wait for a step that hangs."""
        with closing(self._runner):
            self._make_steps()

    def _make_steps(self) -> None:
        try:
            self._runner.prepare()
        except BaseException as error:
            with self._condition:
                self._healthy = False
            self._fail_pending(EngineFailure(f"the engine could not be prepared: {error!r}"))
            self._prepare_error = error
            return
        finally:
            self._prepared.set()
        try:
            while self._take_commands():
                self._step()
                self._step_started = math.inf
            self._fail_pending(ShuttingDown("the server stopped before the translation was done"))
        except BaseException as error:
            _log.critical("the engine has died", exc_info=True)
            with self._condition:
                self._healthy = False  # from now on `submit` refuses, so no request becomes pending after this
            self._fail_pending(EngineFailure(f"the engine has died: {error!r}"))

    def _take_commands(self) -> bool:
        """Wait for work or commands, then carry out the commands. Returns False if the lane is closing.

        The wait needs no timeout for deadlines: while no request runs, all rows are free, so no request waits either.
        """
        with self._condition:
            while not (self._inbox or self._closing or self._scheduler.has_work):
                self._condition.wait()
            if self._closing:
                return False
            commands, self._inbox = self._inbox, []
        for command in commands:
            if isinstance(command, _Submission):
                self._scheduler.add(command.request, command.submitted)
            else:
                self._deliver(self._scheduler.abort(command, Cancelled("cancelled by the caller")))
        return True

    def _step(self) -> None:
        """Perform one step of the running batch, if any request is waiting or running."""
        started = self._clock()
        self._deliver(self._scheduler.expire(started))
        plan = self._scheduler.plan()
        if plan is None:
            return
        self._step_started = started
        try:
            result = self._runner.run(plan)
        except Exception as error:
            self._step_failed(plan, error)
            return
        events = self._scheduler.commit(plan, result, self._clock())
        self._failures_in_a_row = 0
        self._deliver(events)
        self._record_step(plan, result, self._clock() - started)

    def _record_step(self, plan: StepPlan, result: StepResult, seconds: float) -> None:
        """Add a step that took `seconds` in all to the totals."""
        totals, steps = self._totals, plan.num_steps
        totals.interrupted = self._scheduler.interrupted
        if plan.joins:
            totals.encode_seconds.add(result.encode_seconds)
        schedule_seconds = max(0.0, seconds - result.encode_seconds - result.decode_seconds)
        totals.decode_seconds.add(result.decode_seconds / steps, steps)
        totals.schedule_seconds.add(schedule_seconds / steps, steps)
        totals.step_rows.add(plan.num_rows, steps)

    def _step_failed(self, plan: StepPlan, error: Exception) -> None:
        """Repeat the requests of a failed step in smaller groups, or fail the request if it ran alone.

        After a request has failed alone, a probe shows whether steps can be made at all. Raises EngineFailure if
        `MAX_CONSECUTIVE_FAILURES` probes in a row have failed.
        """
        alone = self._scheduler.num_running <= 1
        _log.error(
            "a step of %d rows failed%s",
            plan.num_rows,
            "" if alone else "; its requests run again in smaller groups",
            exc_info=error,
        )
        self._totals.failed_steps += 1
        self._deliver(self._scheduler.fail_step(plan, EngineFailure(f"the engine could not run a step: {error!r}")))
        if not alone:
            return
        try:
            self._runner.probe()
        except Exception as probe_error:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise EngineFailure("no step succeeds any more, not even one without requests") from probe_error
        else:
            self._failures_in_a_row = 0

    def _deliver(self, events: Sequence[Event]) -> None:
        """Call the callbacks, without the lock. An exception from a callback is logged; the others are still called.

        Events of requests that are not pending are dropped: a step may end after `close` has failed its requests.
        """
        if not events:
            return
        by_receiver: dict[OnEvents, list[Event]] = {}
        with self._condition:
            for event in events:
                submission = self._pending.get(event.request_id)
                if submission is None:
                    continue
                by_receiver.setdefault(submission.on_events, []).append(event)
                if isinstance(event, Progress):
                    continue
                request = submission.request
                del self._pending[request.id]  # before the callbacks, so that they see the rows as free
                self._rows -= request.options.num_rows
                self._work -= work_of(request)
                if isinstance(event, Finished):
                    self._totals.finished(request, event)
            self._delivering += 1
        for on_events, received in by_receiver.items():
            try:
                on_events(received)
            except Exception:
                _log.exception("a callback failed on events of requests %s", [event.request_id for event in received])
        with self._condition:
            self._delivering -= 1
            if not (self._pending or self._delivering):
                self._condition.notify_all()

    def _fail_pending(self, error: Exception) -> None:
        """Fail every pending request. The scheduler is not used, because it may be the part that failed."""
        with self._condition:
            pending = list(self._pending)
            self._inbox.clear()
        self._deliver([Failed(request_id, error) for request_id in pending])
