"""Random arrivals and removals of several clients: the order is that of the paper, and no request is lost."""

from __future__ import annotations

import random
from collections import defaultdict

import pytest

from dragoman_service.engine.active_request import Waiting
from dragoman_service.engine.fair_queue import WEIGHTS, FairQueue, work_of
from dragoman_service.engine.request import Request
from support.flows import BATCH, INTERACTIVE, Flow, flow_of, queue_of, request, serve


class Reference:
    """The rule of the paper, without bounds on memory, for queues without removals."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ends: dict[Flow, float] = defaultdict(float)
        self.waiting: list[tuple[float, int]] = []

    def push(self, it: Request) -> None:
        start = max(self.now, self.ends[flow_of(it)])
        self.ends[flow_of(it)] = start + work_of(it) / WEIGHTS[it.priority]
        self.waiting.append((start, it.id))

    def pop(self) -> int:
        self.now, request_id = min(self.waiting)
        self.waiting.remove((self.now, request_id))
        if not self.waiting:  # a new beginning, where the paper goes on with virtual time
            self.now = 0.0
            self.ends.clear()
        return request_id


def random_request(rng: random.Random, request_id: int) -> Request:
    return request(
        request_id,
        rng.choice("abcd"),
        tokens=rng.randint(1, 30),
        rows=rng.choice([1, 1, 4]),
        priority=rng.choice([INTERACTIVE, BATCH]),
    )


@pytest.mark.parametrize("seed", range(5))
def test_random_comings_and_goings_are_served_as_the_paper_says(seed: int) -> None:
    rng = random.Random(seed)
    queue, reference = FairQueue(), Reference()
    for n in range(2000):
        if rng.random() < 0.5 or not len(queue):
            it = random_request(rng, n)
            queue.push(Waiting(it, 0.0))
            reference.push(it)
        else:
            assert serve(queue).id == reference.pop()


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_removed_nobody_is_lost_served_twice_or_overtaken_by_its_own(seed: int) -> None:
    rng = random.Random(seed)
    queue = FairQueue()
    waiting: dict[int, Request] = {}
    for n in range(3000):
        what = rng.random()
        if what < 0.45:
            waiting[n] = random_request(rng, n)
            queue.push(Waiting(waiting[n], 0.0))
        elif what < 0.65 and waiting:
            gone = rng.choice(list(waiting))
            del waiting[gone]
            assert queue.remove(gone)
        elif waiting:
            promised = [it.request.id for it in queue]
            assert sorted(promised) == sorted(waiting)
            it = serve(queue)
            assert it.id == promised[0]
            assert it.id == min(other.id for other in waiting.values() if flow_of(other) == flow_of(it))
            del waiting[it.id]
        assert len(queue) == len(waiting)
        assert (queue.head() is None) == (not waiting)


@pytest.mark.parametrize("seed", range(3))
def test_the_order_foretold_is_the_order_served_if_nobody_else_comes(seed: int) -> None:
    rng = random.Random(seed)
    queue = queue_of(random_request(rng, n) for n in range(400))
    for n in rng.sample(range(400), 300):
        queue.remove(n)
    promised = [it.request for it in queue]
    assert [serve(queue) for _ in promised] == promised
    for flow in {flow_of(it) for it in promised}:
        ids = [it.id for it in promised if flow_of(it) == flow]
        assert ids == sorted(ids)
