"""The engine: one thread that owns scheduler and runner. Everybody else sends it commands and gets events back."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from dragoman_service.engine.observer import NO_OBSERVER, EngineObserver, EngineStats
from dragoman_service.engine.pending import OnEvents, Pending, Submission
from dragoman_service.engine.plan import Runner, StepPlan, StepResult
from dragoman_service.engine.request import Event, Failed, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import Cancelled, EngineFailure, Overloaded, ShuttingDown

MAX_CONSECUTIVE_FAILURES = 3
"""The engine gives up after so many failed probes with no good step between them. A probe is a step without requests;
it follows every request that failed alone."""

CLOSE_SECONDS = 10.0
"""How long `close` waits for the step that runs; a step that hangs cannot be stopped, only left behind."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Cancel:
    request_id: int


class Engine:
    """Runs requests through the continuous batch, one step after the other, on a thread of its own.

    Locking: `_condition` guards what several threads touch: `_inbox`, `_pending`, `_num_waiting`, `_stats` and the
    flags. Scheduler and runner belong to the engine thread alone and are used without the lock. Callbacks and observers
    are called without the lock, so they may call `submit`, `cancel` and `stats` (but not `drain` or `close`, which wait
    for the very thread that they would be on).
    """

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        *,
        observer: EngineObserver = NO_OBSERVER,
        clock: Callable[[], float] = time.monotonic,
        step_timeout: float = math.inf,
    ) -> None:
        """The engine takes scheduler and runner over; deadlines of requests are times of `clock`, in seconds.

        A step that takes longer than `step_timeout` seconds is taken to hang: until it ends the engine is not healthy.
        """
        self._scheduler = scheduler
        self._runner = runner
        self._observer = observer
        self._clock = clock
        self._thread = threading.Thread(target=self._run, name="dragoman-engine", daemon=True)
        self._step_timeout = step_timeout
        self._step_started = math.inf
        self._prepared = threading.Event()
        self._unprepared: BaseException | None = None
        self._condition = threading.Condition()
        self._inbox: list[Submission | _Cancel] = []
        self._pending = Pending(self._condition, observer)
        self._num_waiting = 0
        self._healthy = True
        self._draining = self._closing = False
        self._failures_in_a_row = 0
        self._steps = self._failed_steps = self._tokens = self._source_tokens = 0
        self._stats = self._count()

    @property
    def healthy(self) -> bool:
        """False once the engine thread has died, or while it hangs; a healthy engine need not be started yet."""
        return self._healthy and self._clock() - self._step_started <= self._step_timeout

    @property
    def load(self) -> int:
        """Rows of all requests that have not had their last event; from any thread, without waiting for a lock."""
        return self._pending.rows

    @property
    def backlog_seconds(self) -> float:
        """What all requests that have not had their last event are expected to take; 0 while too little is known."""
        return self._scheduler.latency.work_seconds(self._pending.work, self._scheduler.max_rows)

    def check_time(self, work: int, seconds: float) -> None:
        """Raise DeadlineUnreachable for what cannot be done in so many seconds; see `models.RequestEngine`."""
        self._scheduler.latency.check_time(work, self._scheduler.max_rows, seconds)

    def start(self) -> None:
        """Start the engine thread and wait until its runner is prepared; what was submitted before runs then.

        Once only. Raises what the runner's preparation raises: there is nothing to be done then but `close`.
        """
        self._thread.start()
        self._prepared.wait()
        if self._unprepared is not None:
            raise self._unprepared

    def submit(self, request: Request, on_events: OnEvents) -> None:
        """Accept a request, from any thread.

        `on_events` is then called on the engine thread. A request has any number of `Progress`, then one `Finished` or
        `Failed`; requests with the same (an equal) `on_events` are told of together, in one call for each step. It
        must be quick; what it raises is logged and dropped. Raises at once, without a call of `on_events`:
        `InvalidInput` for what can never run, `Overloaded` if the queue is full, `ShuttingDown` after `drain` or
        `close`, `EngineFailure` after the engine's death, `ValueError` for an id in use.
        """
        self._scheduler.validate(request)
        submission = Submission(request, on_events, self._clock())
        with self._condition:
            if not self._healthy:
                raise EngineFailure("the engine has died")
            if self._draining:
                raise ShuttingDown("the server is shutting down and takes no new work")
            if request.id in self._pending:
                raise ValueError(f"request id {request.id} is in use")
            if self._num_waiting >= self._scheduler.max_queue:
                raise Overloaded(f"{self._num_waiting} requests are waiting, which is the most allowed")
            self._pending.add(submission)
            self._num_waiting += 1
            self._inbox.append(submission)
            self._condition.notify_all()

    def cancel(self, request_id: int) -> None:
        """End a request with `Failed(Cancelled)`, from any thread; its rows are free before the next step.

        Nothing happens if the request has ended already.
        """
        with self._condition:
            if request_id in self._pending:
                self._inbox.append(_Cancel(request_id))
                self._condition.notify_all()

    def stats(self) -> EngineStats:
        """Counts as of the last step, the queue as of now; from any thread."""
        with self._condition:
            return replace(self._stats, waiting=self._num_waiting)

    def drain(self, timeout: float) -> bool:
        """Refuse new work and wait, at most `timeout` seconds, for what was accepted; whether all of it ended."""
        with self._condition:
            self._draining = True
            return self._condition.wait_for(lambda: not self._pending, timeout)

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
        """The engine thread. It frees the runner too: nobody may be waiting any more for a step that hung."""
        with closing(self._runner):
            self._work()

    def _work(self) -> None:
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

        No timeout is needed for deadlines: while nobody runs, all rows are free and nobody waits either.
        """
        with self._condition:
            self._condition.wait_for(lambda: self._inbox or self._closing or self._scheduler.has_work)
            if self._closing:
                return False
            commands, self._inbox = self._inbox, []
        events: list[Event] = []
        for command in commands:
            if isinstance(command, _Cancel):
                events += self._scheduler.abort(command.request_id, Cancelled("cancelled by the caller"))
            else:
                self._scheduler.add(command.request, command.submitted)
        self._deliver(events)
        return True

    def _step(self) -> None:
        """One step of the running batch, if there is anything to run."""
        started = self._clock()
        self._deliver(self._scheduler.expire(started))
        plan = self._scheduler.plan()
        if plan is None:
            return
        if plan.joins:
            self._publish()  # who has joined has left the queue, which may let others in while the step runs
        self._step_started = started
        try:
            result = self._runner.run(plan)
        except Exception as error:
            self._step_failed(plan, error)
            return
        events = self._scheduler.commit(plan, result, self._clock())
        self._failures_in_a_row = 0
        self._steps += plan.num_steps
        self._tokens += len(plan.tokens) * plan.num_steps
        self._source_tokens += sum(len(join.source) for join in plan.joins)
        self._publish()  # before the events, so that whoever has its last event finds its rows free in the counts
        self._pending.tell(events)
        self._observe_step(plan, result, self._clock() - started)

    def _step_failed(self, plan: StepPlan, error: Exception) -> None:
        """Have the running requests run again, apart from each other; or fail the one, and see whether it is to blame.

        Raises EngineFailure if it is not, too often.
        """
        alone = self._scheduler.num_running <= 1
        _log.error(
            "a step of %d rows failed%s", len(plan.tokens), "" if alone else ", is made again in parts", exc_info=error
        )
        self._failed_steps += 1
        self._observer.step_failed(error)
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

    def _publish(self) -> None:
        """Make the counts visible to the other threads."""
        with self._condition:
            queued = sum(isinstance(command, Submission) for command in self._inbox)
            self._num_waiting = self._scheduler.num_waiting + queued
            self._stats = self._count()

    def _count(self) -> EngineStats:
        return EngineStats(
            waiting=self._num_waiting,
            running=self._scheduler.num_running,
            rows_used=self._scheduler.rows_used,
            max_rows=self._scheduler.max_rows,
            cached_positions=self._scheduler.cached_positions,
            max_queue=self._scheduler.max_queue,
            steps=self._steps,
            failed_steps=self._failed_steps,
            tokens=self._tokens,
            source_tokens=self._source_tokens,
        )

    def _deliver(self, events: Sequence[Event]) -> None:
        """Publish and tell what happened beside the steps, which most often is nothing."""
        if events:
            self._publish()
            self._pending.tell(events)

    def _observe_step(self, plan: StepPlan, result: StepResult, seconds: float) -> None:
        try:
            self._observer.step(plan, result, seconds, self._stats)
        except Exception:
            _log.exception("the observer failed on a step")

    def _fail_pending(self, error: Exception) -> None:
        """The end: every request without its last event gets one. The scheduler is not asked: it may be what failed."""
        with self._condition:
            pending = self._pending.ids()
            self._inbox.clear()
            self._num_waiting = 0
            self._stats = replace(self._stats, running=0, rows_used=0, cached_positions=0)
        self._pending.tell([Failed(request_id, error) for request_id in pending])
