"""Helpers that make requests and schedulers, and run them to the end."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_service.engine.plan import Runner
from dragoman_service.engine.request import DecodingOptions, Event, Finished, Normalisation, Progress, Request
from dragoman_service.engine.restrictions import Restriction
from dragoman_service.engine.scheduler import Scheduler
from support import invariants
from support.fake_runner import BEGIN, END, VOCAB_SIZE, FakeRunner


def make_request(
    request_id: int = 1,
    *,
    source: tuple[int, ...] = (),
    max_length: int = 20,
    target_prefix: tuple[int, ...] = (),
    stream: bool = False,
    forced: tuple[int, ...] = (),
    normalisation: Normalisation = Normalisation.GNMT,
    restrictions: tuple[Restriction, ...] = (),
    **options: object,
) -> Request:
    """Make a request. `options` are fields of `DecodingOptions`. The default source depends on the id."""
    return Request(
        id=request_id,
        source=source or (4 + request_id % 13, 5 + request_id % 7, END),
        max_length=max_length,
        options=DecodingOptions(**options),  # type: ignore[arg-type]
        target_prefix=target_prefix,
        stream=stream,
        forced=forced,
        normalisation=normalisation,
        restrictions=restrictions,
    )


def make_scheduler(
    *,
    max_rows: int = 8,
    max_encode_tokens: int = 1024,
    stream_interval: float = 0.0,
    max_steps: int = 1,
    look_ahead: bool = False,
    max_client_rows: int | None = None,
    max_positions: int | None = None,
) -> Scheduler:
    """Make a scheduler for the vocabulary of the fake runner."""
    return Scheduler(
        max_rows=max_rows,
        end_id=END,
        begin_id=BEGIN,
        max_encode_tokens=max_encode_tokens,
        stream_interval=stream_interval,
        max_steps=max_steps,
        look_ahead=look_ahead,
        max_client_rows=max_client_rows,
        max_positions=max_positions,
        vocab_size=VOCAB_SIZE,
    )


def step(scheduler: Scheduler, runner: Runner, now: float = 0.0) -> list[Event]:
    """Perform one step, and check all invariants. Returns its events; none if there is nothing to run."""
    plan = scheduler.plan()
    if plan is None:
        return []
    assert invariants.check(invariants.snapshot_of(scheduler)) == []
    assert invariants.check_plan(plan, invariants.snapshot_of(scheduler)) == []
    events = scheduler.commit(plan, runner.run(plan), now)
    assert invariants.check(invariants.snapshot_of(scheduler)) == []
    return events


def run_to_end(scheduler: Scheduler, runner: Runner) -> list[Event]:
    """Perform steps until no request is waiting or running; returns all events."""
    events: list[Event] = []
    while scheduler.has_work:
        events += step(scheduler, runner)
    return events


def run_alone(request: Request) -> Finished:
    """Run a request without other requests; returns its final event."""
    scheduler = make_scheduler(max_rows=request.options.num_rows)
    scheduler.add(request, 0.0)
    last = run_to_end(scheduler, FakeRunner(scheduler.max_rows))[-1]
    assert isinstance(last, Finished)
    return last


def streamed(events: Iterable[Event], request_id: int) -> tuple[int, ...]:
    """The tokens of all `Progress` events of a request."""
    return tuple(
        token
        for event in events
        if isinstance(event, Progress) and event.request_id == request_id
        for token in event.tokens
    )
