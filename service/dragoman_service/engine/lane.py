"""A lane: one thread that owns a scheduler and a runner, and makes one step of the running batch after the other."""

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
"""A lane gives up after so many failed probes with no good step between them. A probe is a step without requests;
it follows every request that failed alone."""

CLOSE_SECONDS = 10.0
"""How long `close` waits for the step that runs; a step that hangs cannot be stopped, only left behind."""

OnEvents = Callable[[Sequence[Event]], None]
"""Takes what a step decided about the requests that were submitted with it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Submission:
    request: Request
    on_events: OnEvents
    submitted: float
    """In seconds of the lane's clock."""


class Lane:
    """Runs requests through a running batch on a thread of its own.

    Locking: `_condition` guards what several threads change: `_inbox`, `_pending`, their counts, and the flags.
    Scheduler, runner and totals belong to the lane's thread and are used without the lock. Callbacks are called without
    the lock, so they may call `submit`, `cancel` and `stats` (but not `drain` or `close`, which wait for the very
    thread that they would be on).
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        *,
        clock: Callable[[], float] = time.monotonic,
        step_timeout: float = math.inf,
    ) -> None:
        """The lane takes scheduler and runner over; deadlines of requests are times of `clock`, in seconds.

        A step that takes longer than `step_timeout` seconds is taken to hang: until it ends the lane is not healthy.
        """
        self._scheduler = scheduler
        self._runner = runner
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="dragoman-lane", daemon=True)
        self._step_timeout = step_timeout
        self._step_started = math.inf
        self._prepared = threading.Event()
        self._unprepared: BaseException | None = None
        self._condition = threading.Condition()
        self._inbox: list[_Submission | int] = []  # requests, and ids of those to cancel
        self._pending: dict[int, _Submission] = {}  # by request id, until the last event
        self._rows = self._work = 0  # of these
        self._delivering = 0  # calls back that are under way
        self._totals = Totals()
        self._healthy = True
        self._draining = self._closing = False
        self._failures_in_a_row = 0

    @property
    def healthy(self) -> bool:
        """False once the thread has died, or while a step hangs; a healthy lane need not be started yet."""
        return self._healthy and self._clock() - self._step_started <= self._step_timeout

    @property
    def rows(self) -> int:
        """Rows of all requests that have not ended; from any thread, without waiting for a lock."""
        return self._rows

    @property
    def backlog_seconds(self) -> float:
        """What all requests that have not ended are expected to take; 0 while too little is known."""
        return self._scheduler.latency.work_seconds(self._work, self._scheduler.max_rows)

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable for what cannot be done in so many seconds, even with the lane to itself.

        `work` is in source tokens, each times the rows of its request.
        """
        self._scheduler.latency.check_time(work, self._scheduler.max_rows, seconds)

    def start(self) -> None:
        """Start the thread and wait until its runner is prepared; what was submitted before runs then.

        Once only. Raises what the runner's preparation raises: there is nothing to be done then but `close`.
        """
        self._thread.start()
        self._prepared.wait()
        if self._unprepared is not None:
            raise self._unprepared

    def submit(self, request: Request, on_events: OnEvents) -> None:
        """Accept a request, from any thread.

        `on_events` is then called on the lane's thread. A request has any number of `Progress`, then one `Finished` or
        `Failed`; requests with the same (an equal) `on_events` have theirs in one call for each step. It must be quick;
        what it raises is logged and dropped. Raises at once, without a call of `on_events`: `InvalidInput` for what can
        never run, `ShuttingDown` after `drain` or `close`, `EngineFailure` after the lane's death, `ValueError` for an
        id in use.
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
        """End a request with `Failed(Cancelled)`, from any thread; its rows are free before the next step.

        Nothing happens if the request has ended already.
        """
        with self._condition:
            if request_id in self._pending:
                self._inbox.append(request_id)
                self._condition.notify_all()

    def stats(self) -> EngineStats:
        """Counts of this moment, from any thread."""
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
        """Refuse new work and wait, at most `timeout` seconds, for what was accepted; whether all of it ended."""
        with self._condition:
            self._draining = True
            return self._condition.wait_for(lambda: not (self._pending or self._delivering), timeout)

    def close(self) -> None:
        """Fail what is left with `ShuttingDown`, end the thread after the step it is in, free the runner."""
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
                _log.error("a step hangs and cannot be stopped: its thread and memory stay until it ends")
                self._fail_pending(EngineFailure("a step hangs"))

    def _run(self) -> None:
        """The thread. It frees the runner too: nobody may be waiting any more for a step that hung."""
        with closing(self._runner):
            self._make_steps()

    def _make_steps(self) -> None:
        try:
            self._runner.prepare()
        except BaseException as error:
            with self._condition:
                self._healthy = False
            self._fail_pending(EngineFailure(f"the engine could not be prepared: {error!r}"))
            self._unprepared = error
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
                self._healthy = False  # from here on, submit refuses: what is pending now is all there will ever be
            self._fail_pending(EngineFailure(f"the engine has died: {error!r}"))

    def _take_commands(self) -> bool:
        """Wait until there is something to do, then carry out the commands that came. False: time to end.

        No timeout is needed for deadlines: while nothing runs, all rows are free and nothing waits either.
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
        """One step of the running batch, if there is anything to run."""
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
        self._count(plan, result, self._clock() - started)

    def _count(self, plan: StepPlan, result: StepResult, seconds: float) -> None:
        totals, steps = self._totals, plan.num_steps
        if plan.joins:
            totals.encode_seconds.add(result.encode_seconds)
        others = max(0.0, seconds - result.encode_seconds - result.decode_seconds)
        totals.decode_seconds.add(result.decode_seconds / steps, steps)
        totals.schedule_seconds.add(others / steps, steps)
        totals.step_rows.add(plan.num_rows, steps)

    def _step_failed(self, plan: StepPlan, error: Exception) -> None:
        """Have the running requests run again, apart from each other; or fail the one, and see whether it is to blame.

        Raises EngineFailure if it is not, too often.
        """
        alone = self._scheduler.num_running <= 1
        _log.error(
            "a step of %d rows failed%s", len(plan.tokens), "" if alone else ", is made again in parts", exc_info=error
        )
        self._totals.failed_steps += 1
        self._deliver(self._scheduler.fail_step(plan, EngineFailure(f"the engine could not run a step: {error!r}")))
        if not alone:
            return
        try:
            self._runner.probe()
        except Exception as again:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise EngineFailure("no step can be made any more, not even for nobody") from again
        else:
            self._failures_in_a_row = 0

    def _deliver(self, events: Sequence[Event]) -> None:
        """Call back without the lock; what callbacks raise must not hurt the others.

        Events of requests that are not pending are dropped: a step that hung may end after they were given up.
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
                del self._pending[request.id]  # before the callbacks, so that the counts tell them of free rows
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
        """The end: every request without its last event gets one. The scheduler is not asked: it may be what failed."""
        with self._condition:
            pending = list(self._pending)
            self._inbox.clear()
        self._deliver([Failed(request_id, error) for request_id in pending])
