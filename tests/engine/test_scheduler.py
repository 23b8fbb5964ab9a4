"""The scheduler, one rule at a time. `test_scheduler_random` combines them."""

from __future__ import annotations

import dataclasses

import pytest

from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Failed, Finished, Progress, Request, Sampling, Timings
from dragoman_service.engine.scheduler import OVERTAKING, Scheduler
from dragoman_service.errors import Cancelled, DeadlineExceeded, EngineFailure, InvalidInput
from support import invariants
from support.builders import make_request, make_scheduler, run_alone, run_to_end, step, streamed
from support.fake_runner import BEGIN, END, FakeRunner


def scripted(plan: StepPlan, *tokens: int) -> StepResult:
    """A result in which `tokens[r]` is the likeliest candidate of row r."""
    return StepResult([[token] for token in tokens], [[-1.0] for _ in tokens], encode_seconds=0.5, decode_seconds=0.25)


def plan_of(scheduler: Scheduler) -> StepPlan:
    plan = scheduler.plan()
    assert plan is not None
    return plan


def with_deadline(request: Request, deadline: float) -> Request:
    return dataclasses.replace(request, deadline=deadline)


# --- joining and leaving


def test_nothing_to_do_is_no_plan() -> None:
    assert make_scheduler().plan() is None


def test_the_first_plan_encodes_and_feeds_the_begin_token() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1, source=(5, 6, END), beam_size=2), 0.0)
    plan = plan_of(scheduler)
    assert [(join.source, join.rows) for join in plan.joins] == [((5, 6, END), (0, 1))]
    assert list(plan.tokens) == [BEGIN, BEGIN]
    assert list(plan.positions) == [0, 0]
    assert list(plan.source_lengths) == [3, 3]
    assert plan.num_candidates == 4


def test_requests_join_while_others_run() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1, source=(5, 6, END)), 0.0)
    scheduler.commit(plan := plan_of(scheduler), scripted(plan, 7), 1.0)
    scheduler.add(make_request(2, source=(8, END)), 1.0)
    plan = plan_of(scheduler)
    assert list(plan.tokens) == [7, BEGIN]
    assert list(plan.positions) == [1, 0]
    assert list(plan.source_lengths) == [3, 2]


def test_a_request_that_fits_overtakes_one_that_needs_more_rows_than_are_free() -> None:
    scheduler = make_scheduler(max_rows=4)
    scheduler.add(make_request(1, beam_size=2), 0.0)
    scheduler.add(make_request(2, beam_size=4), 0.0)
    scheduler.add(make_request(3), 0.0)
    plan_of(scheduler)
    snapshot = invariants.snapshot_of(scheduler)
    assert [request.request_id for request in snapshot.running] == [1, 3]
    assert [request.request_id for request in snapshot.waiting] == [2]


def test_a_wide_request_is_overtaken_by_so_many_rows_at_most() -> None:
    scheduler = make_scheduler(max_rows=4)
    scheduler.add(make_request(0, max_length=1000, min_length=1000), 0.0)
    scheduler.add(make_request(1, beam_size=4), 0.0)
    for request_id in range(2, 200):  # each runs for one step
        scheduler.add(make_request(request_id), 0.0)
    overtakers = 0
    while (plan := plan_of(scheduler)).joins:
        overtakers += sum(len(join.rows) == 1 for join in plan.joins)
        scheduler.commit(plan, scripted(plan, 7, *[END] * (plan.num_rows - 1)), 0.0)
    assert overtakers == 1 + OVERTAKING * 4
    scheduler.commit(plan, scripted(plan, END), 0.0)  # now all rows are free
    (join,) = plan_of(scheduler).joins
    assert len(join.rows) == 4


def test_what_others_take_is_counted_whoever_is_the_head_of_the_queue() -> None:
    """Narrow requests of its own flow repeatedly make a request of another flow the head."""
    scheduler = make_scheduler(max_rows=4)
    scheduler.add(make_request(0, max_length=10_000, min_length=10_000), 0.0)
    scheduler.add(dataclasses.replace(make_request(1, source=(5, END), beam_size=4), client="a"), 0.0)
    for request_id in range(2, 1000):
        client, source = ("a", (5,) * 9 + (END,)) if request_id % 2 else ("b", (6, END))
        scheduler.add(dataclasses.replace(make_request(request_id, source=source), client=client), 0.0)
    others = 0
    while True:
        plan = plan_of(scheduler)
        others += sum(len(join.rows) == 1 for join in plan.joins)
        keeps_running = not any(len(join.rows) == 4 for join in plan.joins) and others < 100
        if not plan.joins or not keeps_running:
            break
        scheduler.commit(plan, scripted(plan, 7, *[END] * (plan.num_rows - 1)), 0.0)
    assert others <= 1 + 4 + OVERTAKING * 4


def test_deadlines_are_found_without_looking_at_all_that_wait() -> None:
    scheduler = make_scheduler()
    for request_id in range(1000):
        scheduler.add(with_deadline(make_request(request_id), 1000.0 + request_id), 0.0)
    looked_at = []
    latest_start = scheduler.latency.latest_start
    scheduler.latency.latest_start = lambda request: looked_at.append(request.id) or latest_start(request)  # type: ignore
    expired = [event.request_id for now in range(10_000) for event in scheduler.expire(1000.0 + now / 100)]
    assert expired == looked_at == list(range(100))


def test_deadlines_of_requests_that_have_ended_are_forgotten() -> None:
    scheduler = make_scheduler()
    for request_id in range(1000):
        scheduler.add(with_deadline(make_request(request_id), 1e9), 0.0)
        scheduler.abort(request_id, Cancelled("gone"))
    scheduler.expire(1.0)
    assert len(scheduler._deadlines) < 100


def test_the_encoder_budget_spreads_joins_over_steps() -> None:
    scheduler = make_scheduler(max_encode_tokens=5)
    for request_id, length in enumerate((9, 3, 2, 1)):
        scheduler.add(make_request(request_id, source=(4,) * length), 0.0)
    joined = []
    while scheduler.num_waiting:
        plan = plan_of(scheduler)
        joined.append([len(join.source) for join in plan.joins])
        scheduler.commit(plan, scripted(plan, *[7] * len(plan.tokens)), 0.0)
    assert joined == [[9], [3, 2], [1]]


def test_a_joining_request_takes_the_place_of_a_leaving_one() -> None:
    scheduler = make_scheduler()
    for request_id in range(3):
        scheduler.add(make_request(request_id), 0.0)
    scheduler.commit(plan := plan_of(scheduler), scripted(plan, END, 7, 8), 0.0)
    scheduler.add(make_request(3), 0.0)
    plan = plan_of(scheduler)
    assert plan.copies == []
    assert plan.joins[0].rows == (0,)
    assert list(plan.tokens) == [BEGIN, 7, 8]


def test_the_last_row_moves_into_a_hole() -> None:
    scheduler = make_scheduler()
    for request_id in range(3):
        scheduler.add(make_request(request_id), 0.0)
    scheduler.commit(plan := plan_of(scheduler), scripted(plan, END, 7, 8), 0.0)
    plan = plan_of(scheduler)
    assert [(copy.source, copy.target, copy.length, copy.cross) for copy in plan.copies] == [(2, 0, 1, 3)]
    assert list(plan.tokens) == [8, 7]


def test_the_widest_request_decides_how_many_candidates_are_wanted() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 0.0)
    assert plan_of(scheduler).num_candidates == 1
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 0.0)
    scheduler.add(make_request(2, sampling=Sampling(top_k=9)), 0.0)
    scheduler.add(make_request(3, beam_size=3), 0.0)
    assert plan_of(scheduler).num_candidates == 9


def test_fewer_candidates_are_wanted_once_the_widest_request_has_left() -> None:
    scheduler = make_scheduler(max_rows=9)
    for request_id, beam_size in enumerate((1, 2, 3, 3)):
        scheduler.add(make_request(request_id, beam_size=beam_size, min_length=9), 0.0)
    runner, wanted = FakeRunner(9), []
    for leaving in (3, 2, 1):
        plan = plan_of(scheduler)
        wanted.append(plan.num_candidates)
        scheduler.commit(plan, runner.run(plan), 0.0)
        scheduler.abort(leaving, Cancelled("gone"))
    assert [*wanted, plan_of(scheduler).num_candidates] == [6, 6, 4, 1]


@pytest.mark.parametrize("options", [{"beam_size": 3}, {"sampling": Sampling(top_k=2), "num_hypotheses": 2}])
def test_a_neighbour_that_wants_more_candidates_changes_nothing(options: dict[str, object]) -> None:
    request = make_request(1, **options)
    scheduler = make_scheduler()
    scheduler.add(request, 0.0)
    scheduler.add(make_request(2, sampling=Sampling(top_k=50), min_length=15), 0.0)
    events = run_to_end(scheduler, FakeRunner(8))
    (finished,) = [event for event in events if isinstance(event, Finished) and event.request_id == 1]
    assert finished.hypotheses == run_alone(request).hypotheses


# --- refusing


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (make_request(beam_size=5), "beam_size: got 5; allowed: at most 4"),
        (make_request(sampling=Sampling(), num_hypotheses=6), "num_hypotheses: got 6; allowed: at most 4"),
        (make_request(max_length=3, target_prefix=(4, 5, 6)), "target_prefix: got '3 tokens'; allowed: fewer"),
        (make_request(max_length=0), "max_length: got 0"),
        (dataclasses.replace(make_request(), source=()), "source: got"),
    ],
)
def test_requests_that_can_never_run_are_refused(request_: Request, message: str) -> None:
    scheduler = make_scheduler(max_rows=4)
    with pytest.raises(InvalidInput, match=message):
        scheduler.add(request_, 0.0)
    assert not scheduler.has_work


def test_an_id_is_used_once() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 0.0)
    with pytest.raises(ValueError, match="id 1 is in use"):
        scheduler.add(make_request(1), 0.0)
    plan_of(scheduler)
    with pytest.raises(ValueError, match="id 1 is in use"):
        scheduler.add(make_request(1), 0.0)


@pytest.mark.parametrize("name", ["max_rows", "max_encode_tokens", "max_steps", "max_client_rows"])
def test_limits_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: got 0"):
        make_scheduler(**{name: 0})


# --- ending early


def test_an_abort_frees_the_rows_for_the_next_plan() -> None:
    scheduler = make_scheduler(max_rows=4)
    scheduler.add(make_request(1, beam_size=4), 0.0)
    scheduler.add(make_request(2, beam_size=4), 0.0)
    step(scheduler, FakeRunner(4))
    error = Cancelled("gone")
    assert scheduler.abort(1, error) == [Failed(1, error)]
    assert scheduler.rows_used == 0
    assert plan_of(scheduler).joins[0].rows == (0, 1, 2, 3)


def test_an_abort_takes_a_request_out_of_the_queue() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 0.0)
    assert len(scheduler.abort(1, Cancelled("gone"))) == 1
    assert scheduler.plan() is None


def test_an_abort_of_nobody_is_nothing() -> None:
    assert make_scheduler().abort(5, Cancelled("gone")) == []


def test_an_abort_while_the_step_runs_spares_the_neighbours() -> None:
    scheduler, runner = make_scheduler(), FakeRunner(8)
    for request_id in range(3):
        scheduler.add(make_request(request_id), 0.0)
    plan = plan_of(scheduler)
    result = runner.run(plan)
    scheduler.abort(0, Cancelled("gone"))
    finished = [*scheduler.commit(plan, result, 0.0), *run_to_end(scheduler, runner)]
    expected = {request_id: run_alone(make_request(request_id)).hypotheses for request_id in (1, 2)}
    assert {event.request_id: event.hypotheses for event in finished if isinstance(event, Finished)} == expected


def test_deadlines_end_waiting_and_running_requests() -> None:
    scheduler = make_scheduler(max_rows=1)
    scheduler.add(with_deadline(make_request(1), 5.0), 0.0)
    scheduler.add(with_deadline(make_request(2), 6.0), 0.0)
    scheduler.add(make_request(3), 0.0)
    step(scheduler, FakeRunner(1))
    assert scheduler.expire(4.9) == []
    for now, request_id in ((5.0, 1), (6.0, 2)):
        (event,) = scheduler.expire(now)
        assert isinstance(event, Failed)
        assert event.request_id == request_id
        assert isinstance(event.error, DeadlineExceeded)
    assert scheduler.rows_used == 0
    assert scheduler.expire(1e9) == []
    assert scheduler.num_waiting == 1


def test_who_ran_alone_fails_with_the_step_and_who_waits_is_spared() -> None:
    scheduler = make_scheduler(max_rows=1)
    for request_id in range(2):
        scheduler.add(make_request(request_id), 0.0)
    error = EngineFailure("out of memory")
    assert scheduler.fail_step(plan_of(scheduler), error) == [Failed(0, error)]
    assert (scheduler.num_running, scheduler.rows_used, scheduler.num_waiting) == (0, 0, 1)
    (finished,) = run_to_end(scheduler, FakeRunner(1))
    assert finished == run_alone(make_request(1))


def test_a_row_of_nan_fails_its_own_request_alone() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 0.0)
    scheduler.add(make_request(2), 0.0)
    plan = plan_of(scheduler)
    (event,) = scheduler.commit(plan, StepResult([[7], [8]], [[float("nan")], [-1.0]]), 0.0)
    assert isinstance(event, Failed)
    assert event.request_id == 1
    assert isinstance(event.error, EngineFailure)
    assert plan_of(scheduler).tokens == (8,)


# --- the three calls of a step


def test_a_plan_must_be_committed_before_the_next() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 0.0)
    plan = plan_of(scheduler)
    with pytest.raises(RuntimeError, match="neither committed nor failed"):
        scheduler.plan()
    scheduler.commit(plan, scripted(plan, 7), 0.0)
    with pytest.raises(RuntimeError, match="not the plan in flight"):
        scheduler.commit(plan, scripted(plan, 7), 0.0)


# --- events


def test_greedy_streams_every_token() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1, stream=True, target_prefix=(9,)), 0.0)
    events = []
    for token in (0, 7, 8, END):
        events.append(scheduler.commit(plan := plan_of(scheduler), scripted(plan, token), 0.0))
    assert events[:3] == [[Progress(1, (9,))], [Progress(1, (7,))], [Progress(1, (8,))]]
    assert isinstance(events[3][0], Finished)


def test_between_two_pieces_of_a_stream_passes_the_interval() -> None:
    scheduler = make_scheduler(stream_interval=1.0)
    scheduler.add(make_request(1, stream=True), 0.0)
    events = []
    for token, now in ((7, 5.0), (8, 5.5), (9, 5.9), (10, 6.0), (11, 6.1), (END, 6.2)):
        events.append(scheduler.commit(plan := plan_of(scheduler), scripted(plan, token), now))
    pieces, finished = [Progress(1, (7,)), Progress(1, (8, 9, 10)), Progress(1, (11,))], events[5].pop()
    assert events == [pieces[:1], [], [], pieces[1:2], [], pieces[2:]]
    assert isinstance(finished, Finished)


def test_several_samples_stream_at_the_end() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1, stream=True, num_hypotheses=3, sampling=Sampling(), min_length=2), 0.0)
    *progress, finished = run_to_end(scheduler, FakeRunner(8))
    assert isinstance(finished, Finished)
    assert len(progress) == 1
    assert streamed(progress, 1) == finished.hypotheses[0].tokens


def test_nobody_is_told_of_progress_unasked() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 0.0)
    assert len(run_to_end(scheduler, FakeRunner(8))) == 1


def test_timings_add_up_to_the_time_since_submission() -> None:
    scheduler = make_scheduler()
    scheduler.add(make_request(1), 10.0)
    # The first step ends at 13: half a second of it was encoding, a quarter decoding.
    scheduler.commit(plan := plan_of(scheduler), scripted(plan, 7), 13.0)
    (event,) = scheduler.commit(plan := plan_of(scheduler), scripted(plan, END), 15.0)
    assert isinstance(event, Finished)
    assert event.timings == Timings(queue=2.25, encode=0.5, decode=2.25)
