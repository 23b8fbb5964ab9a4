"""Failing steps: requests that fail every step with their rows end alone, and all others succeed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random
from collections.abc import Iterable

import pytest

from dragoman_service.engine.active_request import Waiting
from dragoman_service.engine.request import Progress
from dragoman_service.engine.retry_groups import RetryGroups
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import Cancelled, DeadlineExceeded, DeadlineUnreachable, EngineFailure
from support import invariants
from support.builders import make_request
from support.poisoned import Bench, request_of


def most_failures(requests: int, culprits: int) -> int:
    """Maximum number of failed steps: the first, and one for each halving and each request that causes failures."""
    return 1 + culprits * math.ceil(math.log2(requests))


# --- finding the requests that cause the failure


@pytest.mark.parametrize("size", range(2, 17))
@pytest.mark.parametrize("position", [0, 2])
def test_one_culprit_at_any_place_fails_alone_and_the_others_get_what_they_get_alone(size: int, position: int) -> None:
    requests = [request_of(n, stream=n % 2 == 0) for n in range(size)]
    for culprit in requests:
        bench = Bench(requests, [culprit], position=position)
        bench.to_end()
        assert bench.failures() == {culprit.id: EngineFailure}
        bench.check_the_others(requests)
        assert bench.runner.failed <= most_failures(size, 1)


@pytest.mark.parametrize("size", range(2, 17))
def test_two_culprits_at_any_places_fail_and_nobody_else(size: int) -> None:
    requests = [request_of(n, stream=n % 3 == 0) for n in range(size)]
    for pair in itertools.combinations(requests, 2):
        bench = Bench(requests, pair)
        bench.to_end()
        assert bench.failures() == {it.id: EngineFailure for it in pair}
        bench.check_the_others(requests)
        assert bench.runner.failed <= most_failures(size, 2)


@pytest.mark.parametrize("size", [2, 5, 16])
def test_if_all_are_to_blame_all_fail_and_each_alone(size: int) -> None:
    requests = [request_of(n) for n in range(size)]
    bench = Bench(requests, requests)
    bench.to_end()
    assert bench.failures() == {request.id: EngineFailure for request in requests}
    assert bench.runner.failed == 2 * size - 1  # a tree with so many leaves


@pytest.mark.parametrize("seed", range(12))
def test_beams_that_are_in_the_middle_of_their_sentences_begin_again(seed: int) -> None:
    rng = random.Random(seed)
    size = rng.randint(2, 9)
    requests = [request_of(n, beam_size=rng.randint(1, 5), stream=rng.random() < 0.7) for n in range(size)]
    culprits = rng.sample(requests, rng.randint(1, 2))
    bench = Bench(requests, culprits, position=rng.randint(0, 3))
    bench.to_end()
    assert bench.failures() == {it.id: EngineFailure for it in culprits}
    bench.check_the_others(requests)
    assert bench.runner.failed <= most_failures(size, len(culprits))


def test_a_failure_of_the_moment_costs_nobody_the_translation() -> None:
    requests = [request_of(n, stream=True) for n in range(6)]
    bench = Bench(requests, [])
    bench.step()
    plan = bench.scheduler.plan()
    assert plan is not None
    assert bench.scheduler.fail_step(plan, EngineFailure("once")) == []
    bench.to_end()
    assert bench.failures() == {}
    bench.check_the_others(requests)


def test_who_ran_alone_is_not_tried_again() -> None:
    bench = Bench([request_of(1)], [request_of(1)])
    bench.step()
    assert bench.failures() == {1: EngineFailure}
    assert not bench.scheduler.has_work
    assert bench.runner.failed == 1


# --- who waits meanwhile


@pytest.mark.parametrize("culprit", range(7))
def test_nobody_else_joins_while_suspects_run(culprit: int) -> None:
    requests = [request_of(n) for n in range(7)]
    waiting = [request_of(n) for n in range(20, 23)]
    bench = Bench([*requests, *waiting], [requests[culprit]], max_rows=7)
    bench.until_failed()
    bench.scheduler.add(newcomer := request_of(30), 0.0)
    bench.to_end()
    bench.check_the_others([*requests, *waiting, newcomer])
    with_suspects = [min(batch) < 7 for batch in bench.batches]
    assert with_suspects == sorted(with_suspects, reverse=True)
    assert all(max(batch) < 7 or min(batch) >= 7 for batch in bench.batches)
    assert [join for sources in bench.joined for join in sources][-4:] == [it.source for it in (*waiting, newcomer)]


def test_a_group_of_suspects_runs_with_none_of_another_group() -> None:
    requests = [request_of(n) for n in range(8)]
    bench = Bench(requests, [requests[7]])
    bench.to_end()
    names = {request.source: request.id for request in requests}
    groups = [[names[source] for source in sources] for sources in bench.joined if sources]
    assert groups == [list(range(8)), [0, 1, 2, 3], [4, 5, 6, 7], [4, 5], [6, 7], [6], [7]]


def test_suspects_count_as_waiting_and_their_ids_as_used() -> None:
    requests = [request_of(n) for n in range(4)]
    bench = Bench(requests, [requests[0]])
    bench.until_failed()
    assert bench.scheduler.num_waiting == 4
    assert bench.scheduler.has_work
    with pytest.raises(ValueError, match="id 2 is in use"):
        bench.scheduler.add(requests[2], 0.0)
    assert [it.request_id for it in invariants.snapshot_of(bench.scheduler).suspects] == [0, 1, 2, 3]


def test_after_the_suspects_the_batch_is_filled_as_before() -> None:
    requests = [request_of(n) for n in range(4)]
    bench = Bench(requests, [requests[2]])
    bench.to_end()
    for n in range(10, 14):
        bench.scheduler.add(request_of(n), 0.0)
    bench.step()
    assert bench.scheduler.num_running == 4
    bench.scheduler.add(request_of(20), 0.0)
    bench.scheduler.abort(10, Cancelled("gone"))
    bench.step()
    assert {it.request_id for it in invariants.snapshot_of(bench.scheduler).running} == {11, 12, 13, 20}


# --- giving suspects up


@pytest.mark.parametrize("victim", range(6))
@pytest.mark.parametrize("culprit", [0, 3, 5])
@pytest.mark.parametrize("failures", [1, 2, 3])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_suspect_can_be_cancelled_in_every_state(victim: int, culprit: int, failures: int, steps: int) -> None:
    """The states of an aborted request: waiting in a group, running in a group, or alone, at different steps."""
    requests = [request_of(n, stream=True) for n in range(6)]
    bench = Bench(requests, [requests[culprit]])
    bench.until_failed(failures)
    for _ in range(steps):
        if bench.scheduler.has_work:
            bench.step()
    ended = {event.request_id for event in bench.events if not isinstance(event, Progress)}
    if victim not in ended:
        bench.abort(requests[victim])
    else:
        assert bench.scheduler.abort(victim, Cancelled("gone")) == []
    bench.to_end()
    expected = {} if victim in ended else {victim: Cancelled}
    assert {**bench.failures(), **expected} == bench.failures()
    assert set(bench.failures()) == {culprit, *expected}
    bench.check_the_others(requests)


@pytest.mark.parametrize("culprit", [0, 1])
def test_whose_neighbour_was_cancelled_while_their_step_failed_is_not_to_blame(culprit: int) -> None:
    requests = [request_of(n) for n in range(2)]
    bench = Bench(requests, [requests[culprit]])
    bench.step(meanwhile=lambda: bench.abort(requests[0]))
    bench.to_end()
    assert bench.failures() == ({0: Cancelled} if culprit == 0 else {0: Cancelled, 1: EngineFailure})
    bench.check_the_others(requests)


def test_if_all_of_a_failing_step_were_cancelled_nothing_is_left() -> None:
    requests = [request_of(n) for n in range(3)]
    bench = Bench(requests, requests)
    bench.step(meanwhile=lambda: [bench.abort(request) for request in requests])
    assert not bench.scheduler.has_work
    assert bench.scheduler.plan() is None
    assert set(bench.failures().values()) == {Cancelled}


def test_suspects_that_wait_end_at_their_deadlines() -> None:
    requests = [dataclasses.replace(request_of(n), deadline={2: 5.0, 3: 6.0}.get(n)) for n in range(4)]
    bench = Bench(requests, [requests[0]])
    bench.until_failed()
    assert bench.scheduler.expire(4.9) == []
    bench.events += bench.scheduler.expire(5.0)
    assert bench.failures() == {2: DeadlineExceeded}
    bench.events += bench.scheduler.expire(6.0)
    bench.to_end()
    assert bench.failures() == {0: EngineFailure, 2: DeadlineExceeded, 3: DeadlineExceeded}


def test_a_suspect_that_runs_ends_at_its_deadline() -> None:
    requests = [dataclasses.replace(request_of(n), deadline=5.0 if n == 1 else None) for n in range(4)]
    bench = Bench(requests, [requests[3]])
    bench.until_failed()
    bench.step()
    assert [it.request_id for it in invariants.snapshot_of(bench.scheduler).running] == [0, 1]
    assert bench.scheduler.expire(4.9) == []
    bench.events += bench.scheduler.expire(5.0)
    bench.to_end()
    assert bench.failures() == {1: DeadlineExceeded, 3: EngineFailure}


def test_a_suspect_that_cannot_make_it_any_more_is_dropped_before_it_runs_again() -> None:
    requests = [dataclasses.replace(request_of(n), deadline=5.0 if n == 3 else None) for n in range(4)]
    bench = Bench([], [requests[0]], max_rows=4)
    learn_pace(bench.scheduler, seconds_per_token=1.0)
    for request in requests:
        bench.scheduler.add(request, 0.0)
    bench.until_failed()
    assert bench.scheduler.expire(3.4) == []
    bench.events += bench.scheduler.expire(3.6)
    assert bench.failures() == {3: DeadlineUnreachable}
    joined = len(bench.joined)
    bench.to_end()
    assert bench.failures() == {0: EngineFailure, 3: DeadlineUnreachable}
    assert all(requests[3].source not in sources for sources in bench.joined[joined:])


def learn_pace(scheduler: Scheduler, seconds_per_token: float) -> None:
    scheduler.latency.step(1, seconds_per_token)
    for _ in range(20):
        scheduler.latency.ended(1, 1)


# --- the groups themselves


def waiting(*ids: int) -> list[Waiting]:
    return [Waiting(make_request(n), 0.0) for n in ids]


def ids_of(group: Iterable[Waiting]) -> list[int]:
    return [it.request.id for it in group]


def test_halves_come_in_their_order_the_last_split_first() -> None:
    suspects = RetryGroups()
    suspects.split(waiting(1, 2, 3, 4, 5))
    assert ids_of(suspects) == [1, 2, 3, 4, 5]
    first = suspects.pop()
    assert ids_of(first) == [1, 2]
    suspects.split(first)
    assert ids_of(suspects) == [1, 2, 3, 4, 5]
    assert [ids_of(suspects.pop()) for _ in range(4)] == [[1], [2], [3, 4, 5], []]
    assert len(suspects) == 0


def test_a_group_that_was_given_up_whole_is_passed_over() -> None:
    suspects = RetryGroups()
    suspects.split(waiting(1, 2, 3, 4))
    assert suspects.remove(1)
    assert suspects.remove(2)
    assert not suspects.remove(2)
    assert (2 in suspects, 3 in suspects, len(suspects)) == (False, True, 2)
    assert ids_of(suspects.pop()) == [3, 4]
    assert suspects.pop() == []
