"""The batch of arrays gives the same tokens and scores, bit for bit, as the former scheduler of Python objects."""

from __future__ import annotations

import dataclasses
import random

import pytest

from dragoman_service.engine.request import Event, Failed, Finished, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import Cancelled, EngineFailure
from engine.test_scheduler_random import random_request
from oracle.scheduler import Scheduler as OldScheduler
from support import invariants
from support.builders import make_scheduler, streamed
from support.fake_runner import BEGIN, END, PAD, FakeRunner
from support.worlds import World, WorldRunner

MAX_ROWS = 24


def outcome(scheduler: Scheduler | OldScheduler, seed: int, requests: int) -> dict[int, list[object]]:
    """The events of each request in a random scenario that depends on the seed."""
    rng = random.Random(seed)
    runner = FakeRunner(MAX_ROWS)
    heard: dict[int, list[object]] = {}
    while len(heard) < requests or scheduler.has_work:
        while len(heard) < requests and scheduler.num_waiting < 8:
            made = random_request(rng, len(heard) + 1, 0.0, 0.3)
            # The old scheduler knows nothing of `never_empty`, `patience` and restrictions.
            options = dataclasses.replace(made.options, never_empty=False, patience=1.0)
            request = dataclasses.replace(made, options=options, restrictions=(), deadline=None)
            heard[request.id] = []
            scheduler.add(request, 0.0)
        plan = scheduler.plan()
        assert plan is not None
        for event in scheduler.commit(plan, runner.run(plan), 0.0):  # type: ignore[arg-type]
            # How the tokens of a stream are divided among events depends on the steps, which differ.
            heard[event.request_id] += getattr(event, "tokens", None) or [getattr(event, "hypotheses", event)]
    return heard


@pytest.mark.parametrize(("seed", "begin"), [*((seed, BEGIN) for seed in range(6)), (6, END), (7, PAD)])
def test_both_decide_the_same(seed: int, begin: int) -> None:
    limits = {"max_rows": MAX_ROWS, "begin_id": begin, "end_id": END}
    new, old = outcome(Scheduler(**limits), seed, 400), outcome(OldScheduler(max_queue=64, **limits), seed, 400)
    for request_id, events in old.items():
        assert new[request_id] == events, request_id


# --- hard cases, in crowds that change at every step


def alone(request: Request, world: World) -> list[Event]:
    """The events that the former scheduler gives a request without other requests."""
    scheduler = OldScheduler(max_rows=request.options.num_rows, max_queue=1, begin_id=BEGIN, end_id=END)
    scheduler.add(request, 0.0)
    runner = WorldRunner(scheduler.max_rows, world)
    events: list[Event] = []
    while scheduler.has_work:
        plan = scheduler.plan()
        assert plan is not None
        events += scheduler.commit(plan, runner.run(plan), 0.0)  # type: ignore[arg-type]
    return events


class Crowd:
    """Requests that join, leave and fail at random, and what each hears."""

    def __init__(self, seed: int, world: World, *, max_steps: int = 1) -> None:
        self.rng, self.world = random.Random(seed), world
        self.scheduler = make_scheduler(max_rows=MAX_ROWS, max_steps=max_steps, max_encode_tokens=12)
        self.runner = WorldRunner(MAX_ROWS, world)
        self.requests: dict[int, Request] = {}
        self.heard: dict[int, list[Event]] = {}
        self.given_up: set[int] = set()
        """Requests that were cancelled, or ran alone in a step that failed."""

    def add(self) -> None:
        if self.scheduler.num_waiting < 10:
            request = self.world.request(self.rng, len(self.requests) + 1)
            self.requests[request.id], self.heard[request.id] = request, []
            self.scheduler.add(request, 0.0)

    def cancel(self) -> None:
        running = list(self.scheduler._batch.active)
        if running:
            self.give_up(self.scheduler.abort(self.rng.choice(running), Cancelled("gone")))

    def give_up(self, events: list[Event]) -> None:
        self.given_up |= {event.request_id for event in events}
        self.hear(events)

    def hear(self, events: list[Event]) -> None:
        for event in events:
            self.heard[event.request_id].append(event)

    def step(self) -> None:
        plan = self.scheduler.plan()
        if plan is None:
            return
        snapshot = invariants.snapshot_of(self.scheduler)
        assert invariants.check(snapshot) + invariants.check_plan(plan, snapshot) == []
        fails = self.rng.random() < 0.01
        result = None if fails else self.runner.run(plan)
        while self.rng.random() < 0.2:
            self.rng.choice([self.add, self.add, self.cancel])()
        if result is None:
            self.runner = WorldRunner(MAX_ROWS, self.world)
            self.give_up(self.scheduler.fail_step(plan, EngineFailure("boom")))
        else:
            self.hear(self.scheduler.commit(plan, result, 0.0))
        assert invariants.check(invariants.snapshot_of(self.scheduler)) == []

    def check(self, request: Request) -> None:
        events = self.heard[request.id]
        if request.id in self.given_up:
            assert isinstance(events[-1], Failed)
            return
        expected = alone(request, self.world)[-1]
        assert type(events[-1]) is type(expected)
        if isinstance(expected, Finished):
            assert getattr(events[-1], "hypotheses", ()) == expected.hypotheses
            assert streamed(events, request.id) == (expected.hypotheses[0].tokens if request.stream else ())
        else:
            assert "NaN" in str(getattr(events[-1], "error", ""))


WORLDS = {
    "long": World(end=-3.0, long=0.6),
    "nan": World(nan=0.01, bans=0.2),
    "bans": World(bans=0.8),
    "few words": World(vocabulary=7),
    "hardly a word": World(vocabulary=5, bans=0.3),
    "ties": World(ties=True),
    "all": World(vocabulary=9, nan=0.003, bans=0.5, ties=True, end=-1.0, long=0.4),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", WORLDS)
def test_in_a_crowd_each_gets_what_the_former_scheduler_gave_it_alone(name: str, seed: int) -> None:
    check_crowd(Crowd(seed, WORLDS[name]))


@pytest.mark.parametrize("seed", range(2))
def test_in_plans_of_several_steps_too(seed: int) -> None:
    check_crowd(Crowd(seed, World(nan=0.002, bans=0.3, ties=True, end=-2.0, long=0.6, plain=0.97), max_steps=5))


def check_crowd(crowd: Crowd, requests: int = 80) -> None:
    while len(crowd.requests) < requests or crowd.scheduler.has_work:
        for _ in range(crowd.rng.randrange(4) if len(crowd.requests) < requests else 0):
            crowd.add()
        crowd.step()
    for request in crowd.requests.values():
        crowd.check(request)
    batch = crowd.scheduler._batch
    left = [batch._copies, batch._beams, batch._streams, batch._sampled, batch._given, batch._constrained]
    assert not any(left)
    assert batch.num_watched == 0
