"""Deadline admission: the estimate of durations and the refusals based on it. Durations are made up."""

from __future__ import annotations

import dataclasses
import math
import random

import pytest

from dragoman_service.engine.latency_estimate import HOPELESS, LatencyEstimate
from dragoman_service.engine.request import Failed, Finished, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import DeadlineExceeded, DeadlineUnreachable
from support.builders import make_request, make_scheduler, run_to_end, step
from support.fake_runner import FakeRunner

ENOUGH = 20
"""Sentences that a pace must have seen."""


def pace_of(seconds: float, *, rows: int = 1, steps_per_token: int = 1, sentences: int = ENOUGH) -> LatencyEstimate:
    pace = LatencyEstimate()
    learn(pace, seconds, rows=rows, steps_per_token=steps_per_token, sentences=sentences)
    return pace


def learn(
    pace: LatencyEstimate, seconds: float, *, rows: int = 1, steps_per_token: int = 1, sentences: int = ENOUGH
) -> None:
    """Sentences of ten tokens come to their ends, each after steps of so many seconds."""
    for _ in range(sentences):
        for _ in range(10 * steps_per_token):
            pace.step(rows, seconds)
        pace.ended(10, 10 * steps_per_token)


def until(deadline: float | None, **fields: object) -> Request:
    return dataclasses.replace(make_request(1, source=(4,) * 10, **fields), deadline=deadline)  # type: ignore[arg-type]


def refused(pace: LatencyEstimate, work: int, max_rows: int, seconds: float) -> bool:
    try:
        pace.check_time(work, max_rows, seconds)
    except DeadlineUnreachable:
        return True
    return False


# --- what is expected


def test_while_little_is_known_nothing_is_refused() -> None:
    pace = pace_of(1000.0, sentences=ENOUGH - 1)
    pace.check_time(10**9, 1, 1e-9)
    assert pace.sentence_seconds(100, 1) == 0
    assert pace.work_seconds(100, 1) == 0
    assert pace.latest_start(until(7.0)) == 7.0
    learn(pace, 1000.0, sentences=1)
    assert refused(pace, 10**9, 1, 1e-9)


def test_a_new_pace_knows_nothing() -> None:
    assert LatencyEstimate().sentence_seconds(10, 1) == 0
    LatencyEstimate().check_time(10**9, 1, 1e-9)


def test_a_sentence_takes_steps_in_proportion_to_its_tokens() -> None:
    pace = pace_of(0.5, steps_per_token=2)
    assert pace.sentence_seconds(3, 1) == pytest.approx(3 * 2 * 0.5)


def test_work_is_done_in_full_batches() -> None:
    pace = pace_of(0.5, rows=8)
    assert pace.work_seconds(80, 8) == pytest.approx(80 / 8 * 0.5)


def test_steps_of_more_rows_are_taken_for_no_faster_than_those_seen_with_fewer() -> None:
    pace = pace_of(0.25, rows=4)
    learn(pace, 4.0, rows=64, sentences=1)
    seconds = {rows: pace.sentence_seconds(1, rows) for rows in (1, 4, 7, 8, 63, 64, 1000)}
    assert seconds == pytest.approx({1: 0.25, 4: 0.25, 7: 0.25, 8: 0.25, 63: 0.25, 64: 4.0, 1000: 4.0})


def test_the_pace_follows_what_is_seen() -> None:
    pace = pace_of(1.0)
    learn(pace, 0.1)
    assert pace.sentence_seconds(1, 1) == pytest.approx(0.1, rel=0.01)
    learn(pace, 3.0)
    assert pace.sentence_seconds(1, 1) == pytest.approx(3.0, rel=0.01)


def test_one_step_that_hung_does_not_decide_and_slowness_that_stays_does() -> None:
    pace = pace_of(1.0)
    learn(pace, 0.01)
    pace.step(1, 8.0)  # the process was stopped for eight seconds
    assert pace.sentence_seconds(1, 1) == pytest.approx(0.0115, rel=0.01)
    for _ in range(100):
        pace.step(1, 8.0)
    assert pace.sentence_seconds(1, 1) > 4.0


def test_what_another_thread_looks_at_does_not_change_under_it() -> None:
    pace = pace_of(1.0)
    seen = pace._seconds
    before = dict(seen)
    pace.step(1, 5.0)
    pace.step(999, 5.0)
    pace.relax()
    assert seen == before


# --- what is refused


def test_hopeless_work_is_refused_and_says_what_it_would_take() -> None:
    pace = pace_of(0.5, rows=8)
    with pytest.raises(DeadlineUnreachable, match=r"^1\.500 s are left, and this is expected to take 5\.000 s$"):
        pace.check_time(80, 8, 1.5)


def test_a_request_may_begin_until_half_of_its_time_is_gone() -> None:
    pace = pace_of(0.5)
    assert pace.latest_start(until(100.0)) == pytest.approx(100.0 - HOPELESS * 10 * 0.5)
    assert pace.latest_start(until(None)) == math.inf


@pytest.mark.parametrize("seed", range(5))
def test_what_could_be_done_in_time_is_never_refused(seed: int) -> None:
    """Not even what needs half the steps that sentences need on average; and what could not be done in half of the time
    always is."""
    rng = random.Random(seed)
    step_seconds, steps_per_token, rows = rng.uniform(0.001, 1), rng.randint(1, 4), 2 ** rng.randrange(8)
    pace = pace_of(step_seconds, rows=rows, steps_per_token=steps_per_token)
    for _ in range(200):
        work = rng.randint(1, 10_000)
        usual = work / rows * steps_per_token * step_seconds
        assert not refused(pace, work, rows, usual * rng.uniform(0.5001, 3))
        request = dataclasses.replace(make_request(1, source=(4,) * rng.randint(1, 90)), deadline=1000.0)
        best = len(request.source) * steps_per_token * step_seconds / 2
        assert pace.latest_start(request) == pytest.approx(1000.0 - best)
    assert refused(pace, 1000, rows, 1000 / rows * steps_per_token * step_seconds * 0.4999)


def test_a_pace_that_was_slow_once_does_not_refuse_for_ever() -> None:
    pace = pace_of(1000.0)
    refusals = 0
    while refused(pace, 10, 1, 1.0):
        refusals += 1
        # Each one takes a tenth off, from 10 steps of 1000 s to the 2 s of which one is half.
        assert refusals <= math.ceil(math.log(10_000 / 2) / -math.log(0.9))
    assert refusals > 10


def test_a_request_given_up_beforehand_relaxes_too_and_one_past_its_deadline_does_not() -> None:
    pace = pace_of(1.0)
    passed = pace.too_late(until(5.0), 5.0)
    assert type(passed) is DeadlineExceeded
    assert pace.sentence_seconds(1, 1) == pytest.approx(1.0)
    given_up = pace.too_late(until(5.0), 4.0)
    assert type(given_up) is DeadlineUnreachable
    assert "1.000 s were left" in str(given_up)
    assert pace.sentence_seconds(1, 1) == pytest.approx(0.9)


# --- in the scheduler


def slow_scheduler(max_rows: int = 1) -> Scheduler:
    """An estimate that has measured ten seconds for sentences of ten tokens."""
    scheduler = make_scheduler(max_rows=max_rows)
    learn(scheduler.latency, 1.0)
    return scheduler


def failures(scheduler: Scheduler, now: float) -> dict[int, type[Exception]]:
    events = scheduler.expire(now)
    assert all(isinstance(event, Failed) for event in events)
    return {event.request_id: type(event.error) for event in events if isinstance(event, Failed)}


def waiter(request_id: int, deadline: float, *, tokens: int = 10) -> Request:
    request = make_request(request_id, source=(4 + request_id,) * tokens, min_length=8)
    return dataclasses.replace(request, deadline=deadline)


def test_who_waits_and_cannot_make_it_is_dropped_before_it_is_encoded() -> None:
    scheduler, runner = slow_scheduler(), FakeRunner(1, decode_seconds=1.0)
    scheduler.add(make_request(1, min_length=8), 0.0)
    scheduler.add(waiter(2, 12.0), 0.0)
    scheduler.add(waiter(3, 90.0), 0.0)
    step(scheduler, runner)
    assert failures(scheduler, 6.9) == {}
    assert failures(scheduler, 7.1) == {2: DeadlineUnreachable}
    finished = [event.request_id for event in run_to_end(scheduler, runner) if isinstance(event, Finished)]
    assert finished == [1, 3]
    assert all(join.source != waiter(2, 12.0).source for plan in runner.plans for join in plan.joins)


def test_who_comes_too_late_is_dropped_though_there_are_rows() -> None:
    scheduler = slow_scheduler()
    scheduler.add(waiter(1, 4.0), 0.0)
    assert failures(scheduler, 0.0) == {1: DeadlineUnreachable}
    assert scheduler.plan() is None


def test_a_short_sentence_may_wait_longer_than_a_long_one() -> None:
    scheduler = slow_scheduler()
    scheduler.add(make_request(1, min_length=8), 0.0)
    scheduler.add(waiter(2, 20.0, tokens=20), 0.0)
    scheduler.add(waiter(3, 20.0, tokens=2), 0.0)
    step(scheduler, FakeRunner(1, decode_seconds=1.0))
    assert failures(scheduler, 15.0) == {2: DeadlineUnreachable}
    assert failures(scheduler, 19.5) == {3: DeadlineUnreachable}


def test_who_runs_is_ended_at_the_deadline_and_not_before() -> None:
    scheduler = slow_scheduler()
    scheduler.add(waiter(1, 12.0), 0.0)
    step(scheduler, FakeRunner(1, decode_seconds=1.0))
    assert failures(scheduler, 11.9) == {}
    assert failures(scheduler, 12.0) == {1: DeadlineExceeded}


def test_while_little_is_known_who_waits_is_ended_at_the_deadline() -> None:
    scheduler = make_scheduler(max_rows=1)
    scheduler.add(make_request(1, min_length=8), 0.0)
    scheduler.add(waiter(2, 12.0), 0.0)
    step(scheduler, FakeRunner(1), now=1.0)
    assert failures(scheduler, 11.9) == {}
    assert failures(scheduler, 12.0) == {2: DeadlineExceeded}


def test_the_scheduler_learns_its_pace_from_its_steps() -> None:
    scheduler, runner = make_scheduler(max_rows=4), FakeRunner(4, encode_seconds=0.25, decode_seconds=0.5)
    for request_id in range(ENOUGH):
        scheduler.add(make_request(request_id, source=(4, 5), min_length=6, max_length=6), 0.0)
    run_to_end(scheduler, runner)
    # Six tokens and the end are seven steps for two tokens; the first of each seven encodes as well.
    assert scheduler.latency.sentence_seconds(2, 4) == pytest.approx(7 * 0.5, rel=0.15)


def test_a_plan_of_several_steps_counts_as_several() -> None:
    expected = []
    for max_steps in (1, 4):
        scheduler = make_scheduler(max_rows=32, max_steps=max_steps)
        runner = FakeRunner(32, decode_seconds=0.5 * max_steps)
        for request_id in range(32):
            scheduler.add(make_request(request_id), 0.0)
        run_to_end(scheduler, runner)
        assert {plan.num_steps for plan in runner.plans} == {max_steps}
        expected.append(scheduler.latency.sentence_seconds(3, 32))
    assert expected[0] == pytest.approx(expected[1])
    assert expected[0] > 0
