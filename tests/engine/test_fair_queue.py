"""Fair queueing: the order of requests, the shares of flows, and overtaking."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections import Counter
from typing import Any

import pytest

from dragoman_service.engine.active_request import Waiting
from dragoman_service.engine.fair_queue import WEIGHTS, FairQueue, work_of
from support.builders import make_request, make_scheduler, run_to_end
from support.fake_runner import FakeRunner
from support.flows import BATCH, INTERACTIVE, Flow, flow_of, queue_of, request, serve

# --- order


def test_an_empty_queue_has_no_head() -> None:
    queue = FairQueue()
    assert queue.head() is None
    assert len(queue) == 0
    assert list(queue) == []
    assert queue.sources(100) == ()


def test_within_a_flow_it_is_first_come_first_served() -> None:
    rng = random.Random(0)
    requests = [request(n, "a", tokens=rng.randint(1, 50), rows=rng.randint(1, 8)) for n in range(200)]
    queue = queue_of(requests)
    assert [serve(queue).id for _ in requests] == list(range(200))


def test_who_has_one_request_is_next_but_one_whatever_another_client_has_waiting() -> None:
    queue = queue_of(request(n, "many") for n in range(1000))
    served = [serve(queue) for _ in range(100)]
    queue.push(Waiting(request(5000, "one"), 0.0))
    served = [serve(queue).id for _ in range(2)]
    assert 5000 in served


def test_a_long_request_of_one_client_holds_the_other_up_no_longer_than_itself() -> None:
    queue = queue_of(request(n, "long", tokens=100) for n in range(10))
    for n in range(100, 200):
        queue.push(Waiting(request(n, "short", tokens=10), 0.0))
    work = Counter[str]()
    while work["long"] < 500:
        it = serve(queue)
        work[it.client] += work_of(it)
        assert abs(work["long"] - work["short"]) <= 100 + 10


def test_rows_are_work_as_tokens_are() -> None:
    queue = queue_of(request(n, "beams", rows=5) for n in range(20))
    for n in range(100, 200):
        queue.push(Waiting(request(n, "greedy"), 0.0))
    served = Counter(serve(queue).client for _ in range(60))
    assert served == {"beams": 10, "greedy": 50}


def test_who_was_idle_has_saved_nothing_up() -> None:
    queue = queue_of(request(n, "busy") for n in range(300))
    for _ in range(100):
        serve(queue)
    for n in range(1000, 1100):
        queue.push(Waiting(request(n, "idle"), 0.0))
    assert Counter(serve(queue).client for _ in range(100)) == {"busy": 50, "idle": 50}


def test_an_empty_queue_forgets_what_was() -> None:
    queue = queue_of(request(n, "greedy") for n in range(100))
    while queue.head():
        serve(queue)
    for n, client in enumerate(["modest", "greedy"] * 10, start=1000):
        queue.push(Waiting(request(n, client), 0.0))
    assert Counter(serve(queue).client for _ in range(10)) == {"modest": 5, "greedy": 5}


# --- shares


def test_interactive_work_gets_sixteen_times_as_much_as_batch_work() -> None:
    queue = queue_of(request(n, "a", priority=BATCH) for n in range(100))
    for n in range(1000, 3000):
        queue.push(Waiting(request(n, "a"), 0.0))
    served = Counter(serve(queue).priority for _ in range(17 * 50))
    assert served == {INTERACTIVE: 16 * 50, BATCH: 50}


def test_a_batch_flow_is_never_starved() -> None:
    rng = random.Random(1)
    queue = queue_of(request(n, "a", tokens=20, priority=BATCH) for n in range(30))
    since, ids = 0, iter(range(1000, 100_000))
    for _ in range(40):
        queue.push(Waiting(request(next(ids), "b", tokens=rng.randint(1, 40)), 0.0))
    batch = 0
    while batch < 30:
        it = serve(queue)
        if it.priority is BATCH:
            batch, since = batch + 1, 0
            continue
        since += work_of(it)
        assert since <= 16 * 20 + 40  # its weight's worth of interactive work, and the request that is on
        queue.push(Waiting(request(next(ids), "b", tokens=rng.randint(1, 40)), 0.0))


@pytest.mark.parametrize("seed", range(5))
def test_flows_that_wait_get_work_in_the_proportion_of_their_weights(seed: int) -> None:
    """Over any stretch, the work of two flows over their weights differs by less than a request of each: the theorem
    of start-time fair queueing."""
    rng = random.Random(seed)
    flows = [("a", INTERACTIVE), ("a", BATCH), ("b", INTERACTIVE), ("c", BATCH), ("d", INTERACTIVE)]
    ids = iter(range(10**6))
    queue = FairQueue()

    def more(flow: Flow) -> None:
        it = request(next(ids), flow[0], tokens=rng.randint(1, 60), rows=rng.randint(1, 4), priority=flow[1])
        queue.push(Waiting(it, 0.0))

    for flow in flows:
        for _ in range(5):
            more(flow)
    shares = {flow: [0.0] for flow in flows}
    for _ in range(600):
        it = serve(queue)
        more(flow_of(it))
        for flow in flows:
            shares[flow].append(shares[flow][-1] + (work_of(it) / WEIGHTS[it.priority] if flow == flow_of(it) else 0))
    for index, first in enumerate(flows):
        for second in flows[:index]:
            most = 60 * 4 / WEIGHTS[first[1]] + 60 * 4 / WEIGHTS[second[1]]
            ahead = [a - b for a, b in zip(shares[first], shares[second], strict=True)]
            assert max(ahead) - min(ahead) <= most


# --- taking out


def test_removed_requests_are_skipped() -> None:
    queue = queue_of(request(n, "a") for n in range(6))
    assert all(queue.remove(n) for n in (0, 3, 5))
    assert not queue.remove(3)
    assert not queue.remove(99)
    assert len(queue) == 3
    assert 3 not in queue
    assert 4 in queue
    assert [waiting.request.id for waiting in queue] == [1, 2, 4]
    assert [serve(queue).id for _ in range(3)] == [1, 2, 4]
    assert queue.head() is None


def test_the_sources_of_the_first_are_as_many_as_fit() -> None:
    queue = queue_of(request(n, "a", tokens=n) for n in (3, 4, 5, 1))
    assert [len(source) for source in queue.sources(2)] == []
    assert [len(source) for source in queue.sources(7)] == [3, 4]
    assert [len(source) for source in queue.sources(12)] == [3, 4, 5]
    assert [len(source) for source in queue.sources(99)] == [3, 4, 5, 1]
    queue.remove(4)
    assert [len(source) for source in queue.sources(8)] == [3, 5]
    assert len(queue) == 3


# --- memory


def entries(queue: FairQueue) -> int:
    """The number of entries in the data structures of a queue."""
    return len(queue._flows) + len(queue._order) + len(queue._keys)


def test_ever_new_clients_leave_nothing_behind_while_the_queue_is_never_empty() -> None:
    queue = queue_of(request(n, "patient") for n in range(2))
    for n in range(10, 10_000):
        queue.push(Waiting(request(n, f"client {n}"), 0.0))
        serve(queue)
        assert entries(queue) < 250


def test_requests_given_up_leave_nothing_behind_while_the_queue_is_never_empty() -> None:
    queue = queue_of([request(0, "patient")])
    for n in range(10, 10_000):
        queue.push(Waiting(request(n, "hasty"), 0.0))
        queue.remove(n)
        assert entries(queue) < 250


def test_a_queue_without_requests_holds_nothing() -> None:
    queue = queue_of(request(n, f"client {n % 7}") for n in range(100))
    for n in range(0, 100, 2):
        queue.remove(n)
    while queue.head():
        serve(queue)
    assert entries(queue) == 0


# --- in the scheduler


def test_clients_join_in_turns_and_who_will_join_is_foretold() -> None:
    scheduler, runner = make_scheduler(max_rows=2, look_ahead=True), FakeRunner(2)
    for n in range(6):
        scheduler.add(dataclasses.replace(make_request(n), client="many"), 0.0)
    scheduler.add(dataclasses.replace(make_request(10), client="one"), 0.0)
    run_to_end(scheduler, runner)
    sources = {make_request(n).source: n for n in (*range(6), 10)}
    joined = [sources[join.source] for plan in runner.plans for join in plan.joins]
    assert joined == [0, 10, 1, 2, 3, 4, 5]
    for plan, following in itertools.pairwise(runner.plans):
        assert plan.upcoming[: len(following.joins)] == tuple(join.source for join in following.joins)
    assert [sources[source] for source in runner.plans[0].upcoming] == joined[2:]


def test_work_given_up_costs_its_client_nothing() -> None:
    queue = queue_of(request(n, "hasty", tokens=80, priority=BATCH) for n in range(64))
    for n in range(100, 500):
        queue.push(Waiting(request(n, "patient"), 0.0))
    for n in range(64):
        queue.remove(n)
    queue.push(Waiting(request(64, "hasty", tokens=80, priority=BATCH), 0.0))
    assert 64 in [serve(queue).id for _ in range(2)]


def test_the_first_requests_are_found_without_a_look_at_all_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """A scheduler looks at some in every step, while other requests run."""
    queue = queue_of(request(number, f"client {number % 2000}", tokens=1 + number % 97) for number in range(4000))
    looks = Counter[str]()
    is_valid = FairQueue._is_valid

    def counted(self: FairQueue, entry: Any) -> bool:
        looks["entries"] += 1
        return is_valid(self, entry)

    monkeypatch.setattr(FairQueue, "_is_valid", counted)
    first = [waiting.request.id for waiting in itertools.islice(queue, 32)]
    assert looks["entries"] < 200
    assert first == [serve(queue).id for _ in first]
