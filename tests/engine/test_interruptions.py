"""Requests of a client with many rows are interrupted for those of a client with few."""

from __future__ import annotations

import dataclasses

from dragoman_service.engine.request import Finished, Priority, Progress, Request
from dragoman_service.engine.scheduler import MOST_INTERRUPTIONS, OVERTAKING, Scheduler
from support.builders import make_request, make_scheduler, run_alone, step
from support.fake_runner import FakeRunner

ROWS = 8


def request(
    number: int, client: str, rows: int, priority: Priority = Priority.INTERACTIVE, *, stream: bool = False
) -> Request:
    made = make_request(number, beam_size=rows, max_length=30, min_length=20)
    return dataclasses.replace(made, client=client, priority=priority, stream=stream)


def start(*requests: Request) -> tuple[Scheduler, FakeRunner]:
    """A scheduler in which these requests have run for a step each."""
    scheduler, runner = make_scheduler(max_rows=ROWS), FakeRunner(ROWS)
    for each in requests:
        scheduler.add(each, 0.0)
        step(scheduler, runner)
    return scheduler, runner


def running(scheduler: Scheduler) -> set[int]:
    return set(scheduler._batch.active)


def test_a_client_without_rows_interrupts_the_youngest_request_of_the_largest_holder() -> None:
    scheduler, runner = start(request(1, "a", 4), request(2, "a", 4))
    scheduler.add(request(3, "b", 2), 0.0)
    step(scheduler, runner)
    assert running(scheduler) == {1, 3}
    assert scheduler.interrupted == 1
    assert scheduler.num_waiting == 1


def test_an_interrupted_request_gives_what_it_would_give_alone() -> None:
    requests = [request(1, "a", 4), request(2, "a", 4), request(3, "b", 2)]
    scheduler, runner = start(*requests)
    results: dict[int, object] = {}
    while scheduler.has_work:
        for event in step(scheduler, runner):
            if isinstance(event, Finished):
                results[event.request_id] = event.hypotheses
    assert scheduler.interrupted
    for each in requests:
        assert results[each.id] == run_alone(each).hypotheses


def test_an_interrupted_stream_sends_every_token_once() -> None:
    stream = request(2, "a", 1, stream=True)
    scheduler, runner = start(request(1, "a", 4), request(4, "a", 3))
    sent: list[int] = []
    final: tuple[int, ...] = ()
    scheduler.add(stream, 0.0)
    while scheduler.has_work:
        if len(sent) == 5 and not scheduler.interrupted and 3 not in scheduler._batch.active:
            scheduler.add(request(3, "b", 1), 0.0)
        for event in step(scheduler, runner):
            if event.request_id == stream.id and isinstance(event, Progress):
                sent += event.tokens
            elif event.request_id == stream.id and isinstance(event, Finished):
                final = event.hypotheses[0].tokens
    assert scheduler.interrupted
    assert len(sent) > 5
    assert tuple(sent) == final


def test_a_client_interrupts_nobody_to_have_as_much_as_he() -> None:
    scheduler, runner = start(request(1, "a", 4), request(2, "a", 4))
    scheduler.add(request(3, "b", 8), 0.0)
    step(scheduler, runner)
    assert running(scheduler) == {1, 2}
    assert scheduler.interrupted == 0


def test_nothing_is_interrupted_if_it_would_not_suffice() -> None:
    scheduler, runner = start(request(1, "a", 4), request(2, "c", 2), request(4, "d", 2))
    scheduler.add(request(3, "b", 5), 0.0)
    step(scheduler, runner)
    assert running(scheduler) == {1, 2, 4}


def test_several_requests_are_interrupted_if_one_does_not_suffice() -> None:
    scheduler, runner = start(*(request(number, "a", 2) for number in (1, 2, 4, 5)))
    scheduler.add(request(3, "b", 4), 0.0)
    step(scheduler, runner)
    assert running(scheduler) == {1, 2, 3}


def test_requests_of_one_client_do_not_interrupt_each_other() -> None:
    scheduler, runner = start(request(1, "a", 4), request(2, "a", 4))
    scheduler.add(request(3, "a", 1), 0.0)
    step(scheduler, runner)
    assert running(scheduler) == {1, 2}


def test_batch_work_interrupts_no_interactive_request() -> None:
    scheduler, runner = start(request(1, "a", 4), request(2, "a", 4))
    scheduler.add(request(3, "b", 1, Priority.BATCH), 0.0)
    step(scheduler, runner)
    assert running(scheduler) == {1, 2}


def test_a_request_that_waits_for_rows_does_not_keep_the_next_client_waiting() -> None:
    scheduler, runner = start(request(1, "a", 4), request(2, "a", 4))
    scheduler.add(request(4, "a", 4), 0.0)
    step(scheduler, runner)  # the head of the queue needs more rows than are free
    scheduler.add(request(3, "b", 2), 0.0)
    step(scheduler, runner)
    assert running(scheduler) == {1, 3}


def test_rows_that_are_kept_for_a_wide_request_are_not_given_to_clients_with_fewer_rows_than_others() -> None:
    """A client who always has some small request, of which each fits into the rows that are free."""
    long = dataclasses.replace(make_request(1, beam_size=4, max_length=400, min_length=400), client="a")
    scheduler, runner = start(long)
    scheduler.add(request(2, "b", ROWS), 0.0)
    later = 2
    while 2 not in running(scheduler):
        if scheduler.rows_used < ROWS:
            later += 1
            scheduler.add(request(later, f"c{later}", 1), 0.0)
        step(scheduler, runner)
        joined = later - 2 - (scheduler.num_waiting - 1)
        assert joined <= OVERTAKING * ROWS + scheduler.interrupted


def test_a_request_that_needs_all_rows_ends_beside_a_client_with_one_short_request_after_the_other() -> None:
    wide = request(1, "a", ROWS)
    scheduler, runner = start(wide)
    ended: list[Finished] = []
    number = 1
    for now in range(1_000):
        if now % 5 == 0 and scheduler.num_waiting == 0 and running(scheduler) == {1}:
            number += 1
            scheduler.add(request(number, "b", 1), 0.0)
        ended += [event for event in step(scheduler, runner) if isinstance(event, Finished) and event.request_id == 1]
        if ended:
            break
    assert [each.hypotheses for each in ended] == [run_alone(wide).hypotheses]
    assert scheduler.interrupted == MOST_INTERRUPTIONS
