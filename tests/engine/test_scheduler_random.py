"""Thousands of random operations: every request gets the same result as without other requests."""

from __future__ import annotations

import dataclasses
import random

import pytest

from dragoman_service.engine.plan import StepPlan
from dragoman_service.engine.request import (
    DecodingOptions,
    Event,
    Failed,
    Finished,
    Hypothesis,
    Normalisation,
    Priority,
    Request,
    Sampling,
)
from dragoman_service.engine.restrictions import Exactly, Restriction, TokensAt
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import Cancelled, DeadlineExceeded, EngineFailure
from support import invariants
from support.builders import make_scheduler, run_alone, streamed
from support.fake_runner import BEGIN, END, WORDS, FakeRunner
from support.worlds import biases

MAX_ROWS = 12
MAX_WAITING = 10


def random_options(rng: random.Random) -> DecodingOptions:
    common = {
        "length_penalty": rng.choice([0.0, 0.6, 1.0, 2.0]),
        "min_length": rng.choice([0, 0, 0, 2, 5]),
        "repetition_penalty": rng.choice([1.0, 1.0, 1.0, 1.3]),
        "no_repeat_ngram_size": rng.choice([0, 0, 0, 1, 2, 3]),
        "never_empty": rng.random() < 0.5,
    }
    kind = rng.choice(["greedy", "beam", "sample"])
    if kind == "greedy":
        return DecodingOptions(**common)
    if kind == "beam":
        beam_size = rng.randint(2, 6)
        patience = rng.choice([1.0, 1.0, 1.5, 10.0])
        return DecodingOptions(
            beam_size=beam_size, num_hypotheses=rng.randint(1, beam_size), patience=patience, **common
        )
    sampling = Sampling(
        temperature=rng.choice([0.3, 1.0, 2.0]),
        top_k=rng.choice([1, 5, 50]),
        top_p=rng.choice([0.5, 0.9, 1.0]),
        seed=rng.randrange(1000),
    )
    return DecodingOptions(num_hypotheses=rng.randint(1, 4), sampling=sampling, **common)


def random_request(rng: random.Random, request_id: int, now: float, plain_share: float) -> Request:
    plain = rng.random() < plain_share
    max_length = rng.randint(1, 14)
    prefix_length = rng.randrange(min(max_length, 4)) if not plain and rng.random() < 0.3 else 0
    return Request(
        id=request_id,
        source=(*rng.choices(WORDS, k=rng.randint(1, 6)), END),
        max_length=max_length,
        options=DecodingOptions() if plain else random_options(rng),
        target_prefix=tuple(rng.choices(WORDS, k=prefix_length)),
        deadline=now + rng.randint(1, 40) if rng.random() < 0.2 else None,
        stream=not plain and rng.random() < 0.5,
        client=rng.choice("abc"),
        priority=rng.choice(list(Priority)),
        forced=tuple(rng.choices([*WORDS, END, BEGIN], k=rng.choice([0, 0, 1, 2]))),
        normalisation=rng.choice(list(Normalisation)),
        biases=() if plain else biases(rng),
        restrictions=() if plain else random_restrictions(rng),
    )


def random_restrictions(rng: random.Random) -> tuple[Restriction, ...]:
    given = Exactly(tuple(rng.choices(WORDS, k=rng.randint(1, 8))), END)
    some = TokensAt(rng.randrange(3), tuple(rng.sample(WORDS, 3)))
    return rng.choice([(), (), (), (given,), (some,)])


class Story:
    """A scheduler with caches, and the events of all added requests."""

    def __init__(self, seed: int, max_steps: int) -> None:
        self.rng = random.Random(seed)
        self.plain_share = 0.0 if max_steps == 1 else 0.95  # of those that leave it to the runner what is fed next
        self.scheduler: Scheduler = make_scheduler(
            max_rows=MAX_ROWS,
            max_encode_tokens=12,
            max_steps=max_steps,
            look_ahead=max_steps > 1,
            max_client_rows=self.rng.choice([None, 1, 4]),
        )
        self.runner = FakeRunner(MAX_ROWS)
        self.plans: list[StepPlan] = []
        self.culprits: dict[int, int] = {}
        """Request id -> the position from which on it makes every step fail that it is in."""
        self.struck: set[int] = set()
        """Those that ran alone when a step failed by chance."""
        self.requests: dict[int, Request] = {}
        self.events: dict[int, list[Event]] = {}
        self.now = 0.0

    def add(self) -> None:
        request = random_request(self.rng, len(self.requests) + 1, self.now, self.plain_share)
        if self.scheduler.num_waiting >= MAX_WAITING:
            return
        self.scheduler.add(request, self.now)
        self.requests[request.id] = request
        self.events[request.id] = []
        if self.rng.random() < 0.03:
            self.culprits[request.id] = self.rng.randrange(4)

    def abort(self) -> None:
        if self.requests:
            request_id = self.rng.choice(list(self.requests)[-20:])
            ended = self.ended(request_id)
            events = self.scheduler.abort(request_id, Cancelled("tired of waiting"))
            assert len(events) == (0 if ended else 1)
            self.hear(events)

    def expire(self) -> None:
        self.hear(self.scheduler.expire(self.now))

    def step(self) -> None:
        self.now += 1
        plan = self.scheduler.plan()
        if plan is None:
            assert not self.scheduler.has_work
            return
        self.check()
        assert invariants.check_plan(plan, invariants.snapshot_of(self.scheduler)) == []
        self.plans.append(plan)
        running = {it.request_id: it.position for it in invariants.snapshot_of(self.scheduler).running}
        by_chance = self.rng.random() < 0.005
        failed = by_chance or any(
            running[it] + plan.num_steps > self.culprits[it] for it in running & self.culprits.keys()
        )
        result = None if failed else self.runner.run(plan)
        while self.rng.random() < 0.1:  # somebody comes or goes while the step runs
            self.rng.choice([self.add, self.abort, self.expire])()
        if result is None:
            self.fail(plan, list(running), by_chance=by_chance)
        else:
            self.hear(self.scheduler.commit(plan, result, self.now))

    def fail(self, plan: StepPlan, running: list[int], *, by_chance: bool) -> None:
        """Fail a step, which loses the caches. Only a request that ran alone may get an event."""
        left = [it for it in running if not self.ended(it)]
        events = self.scheduler.fail_step(plan, EngineFailure("a cosmic ray"))
        assert [event.request_id for event in events] == (left if len(running) == 1 else [])
        if by_chance and len(running) == 1:
            self.struck.update(left)
        self.hear(events)
        suspects = {it.request_id for it in invariants.snapshot_of(self.scheduler).suspects}
        assert suspects.issuperset(left if len(running) > 1 else [])
        assert self.scheduler.num_running == 0
        self.runner = FakeRunner(MAX_ROWS)

    def hear(self, events: list[Event]) -> None:
        for event in events:
            assert not self.ended(event.request_id), "an event after the last one"
            self.events[event.request_id].append(event)

    def ended(self, request_id: int) -> bool:
        events = self.events[request_id]
        return bool(events) and isinstance(events[-1], Finished | Failed)

    def check(self) -> None:
        assert invariants.check(invariants.snapshot_of(self.scheduler)) == []


@pytest.mark.parametrize(("seed", "max_steps"), [(0, 1), (1, 1), (2, 1), (3, 1), (4, 4), (5, 3)])
def test_every_request_gets_what_it_would_get_alone(seed: int, max_steps: int) -> None:
    story = Story(seed, max_steps)
    operations = [story.add] * 3 + [story.step] * 8 + [story.abort, story.expire]
    for _ in range(2000):
        story.rng.choice(operations)()
        story.check()
    while story.scheduler.has_work:
        story.step()
    assert story.scheduler.rows_used == 0

    reasons = set()
    for request_id, request in story.requests.items():
        assert story.ended(request_id)
        last = story.events[request_id][-1]
        if isinstance(last, Failed):
            reasons.add(type(last.error))
            if isinstance(last.error, DeadlineExceeded):
                assert request.deadline is not None
            if isinstance(last.error, EngineFailure):
                assert request_id in story.culprits.keys() | story.struck
            continue
        assert len(last.hypotheses[0].tokens) <= story.culprits.get(request_id, 100)
        alone = run_alone(dataclasses.replace(request, deadline=None))
        assert last.hypotheses == alone.hypotheses
        tokens = streamed(story.events[request_id], request_id)
        assert tokens == (last.hypotheses[0].tokens if request.stream else ())
        for hypothesis in last.hypotheses:
            check_promises(request, hypothesis)
    assert {Cancelled, EngineFailure} <= reasons <= {Cancelled, DeadlineExceeded, EngineFailure}
    assert {plan.num_steps for plan in story.plans} == {1, max_steps}


def check_promises(request: Request, hypothesis: Hypothesis) -> None:
    tokens = hypothesis.tokens
    assert len(tokens) == len(hypothesis.token_scores) <= request.max_length
    assert tokens[: len(request.target_prefix)] == request.target_prefix
    assert set(tokens) <= set(WORDS)
    if not request.restrictions:  # else it is cut where they allow nothing
        assert len(tokens) >= min(request.options.min_length, request.max_length)
        assert tokens or not request.options.never_empty
