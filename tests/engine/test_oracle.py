"""The batch of arrays gives the same tokens and scores, bit for bit, as the former scheduler of Python objects."""

from __future__ import annotations

import dataclasses
import random

import pytest

from dragoman_service.engine.scheduler import Scheduler
from engine.test_scheduler_random import random_request
from oracle.scheduler import Scheduler as OldScheduler
from support.fake_runner import BEGIN, END, FakeRunner

MAX_ROWS = 24


def outcome(scheduler: Scheduler | OldScheduler, seed: int, requests: int) -> dict[int, list[object]]:
    """The events of each request in a random scenario that depends on the seed."""
    rng = random.Random(seed)
    runner = FakeRunner(MAX_ROWS)
    heard: dict[int, list[object]] = {}
    while len(heard) < requests or scheduler.has_work:
        while len(heard) < requests and scheduler.num_waiting < 8:
            request = dataclasses.replace(random_request(rng, len(heard) + 1, 0.0, 0.3), deadline=None)
            heard[request.id] = []
            scheduler.add(request, 0.0)
        plan = scheduler.plan()
        assert plan is not None
        for event in scheduler.commit(plan, runner.run(plan), 0.0):  # type: ignore[arg-type]
            # How the tokens of a stream are divided among events depends on the steps, which differ.
            heard[event.request_id] += getattr(event, "tokens", None) or [getattr(event, "hypotheses", event)]
    return heard


@pytest.mark.parametrize("seed", range(8))
def test_both_decide_the_same(seed: int) -> None:
    limits = {"max_rows": MAX_ROWS, "begin_id": BEGIN, "end_id": END}
    new, old = outcome(Scheduler(**limits), seed, 400), outcome(OldScheduler(max_queue=64, **limits), seed, 400)
    for request_id, events in old.items():
        assert new[request_id] == events, request_id
