"""The engine through its messages and answers, within one process and over a link to another."""

from __future__ import annotations

import pickle
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from dragoman_service import errors
from dragoman_service.engine.messages import Cancel, Expect, Lost, Open, Submit
from dragoman_service.engine.request import Failed, Finished
from dragoman_service.errors import (
    Cancelled,
    DeadlineUnreachable,
    EngineFailure,
    InvalidInput,
    Overloaded,
    ShuttingDown,
)
from support.builders import make_request, run_alone
from support.fronts import CULPRIT, Front, Line, line, make_engine
from support.link_client import LOST
from support.waiting import wait_until

KINDS = ["call", "link"]


@pytest.fixture(params=KINDS)
def engine(request: pytest.FixtureRequest) -> Iterator[Line]:
    with line(request.param) as made:
        yield made


@pytest.fixture(params=KINDS)
def small(request: pytest.FixtureRequest) -> Iterator[Line]:
    with line(request.param, max_queue=10, max_queue_tokens=20, max_rows=4) as made:
        yield made


def alone(**options: Any) -> Any:
    """The result of request number 0 without other requests."""
    return run_alone(make_request(1, **{"source": (4, 11, 2), **options})).hypotheses


def learn_what_work_takes(front: Front) -> None:
    """Translate until the engine refuses deadlines, for which every lane must have ended some requests."""
    for _ in range(20):
        call = front.open(window=30)
        front.expect(call, 60)
        for request_id in [front.submit(call, 0, min_length=3) for _ in range(60)]:
            front.finished(request_id)
        probe = front.open()
        front.expect(probe, 1, work=10**9, deadline=time.monotonic() + 0.5)
        if isinstance(front.last(front.submit(probe, 0)), Failed):  # because the call is over
            return
    raise AssertionError("no deadline was refused")


# --- the normal course


def test_a_call_from_its_admission_to_its_end(engine: Line) -> None:
    front = engine.front()
    call = front.open(window=2)
    assert front.window(call) == 2
    front.expect(call, 3)
    requests = [front.submit(call, 0, beam_size=size) for size in (1, 2, 3)]
    for size, request_id in zip((1, 2, 3), requests, strict=True):
        assert front.finished(request_id).hypotheses == alone(beam_size=size)
    late = front.submit(call, 0)
    assert isinstance(front.error(late), Cancelled), "as many as expected have ended, so the call is over"


def test_progress_comes_before_the_end(engine: Line) -> None:
    front = engine.front()
    call = front.open()
    front.expect(call, 1)
    request_id = front.submit(call, 0, stream=True)
    (best,) = front.finished(request_id).hypotheses
    assert tuple(front.progress(request_id)) == best.tokens


def test_fronts_do_not_hear_of_each_other(engine: Line) -> None:
    fronts = [engine.front(), engine.front()]
    asked: list[set[int]] = []
    for front in fronts:
        call = front.open()
        front.expect(call, 4)
        asked.append({front.submit(call, number) for number in range(4)})
    for front, requests in zip(fronts, asked, strict=True):
        for request_id in requests:
            front.finished(request_id)
        assert set(front.ends()) == requests
    assert not asked[0] & asked[1]


def test_the_counts_arrive(engine: Line) -> None:
    front = engine.front()
    call = front.open()
    front.expect(call, 1)
    (best,) = front.finished(front.submit(call, 0)).hypotheses
    wait_until(lambda: front.connection.stats().totals.source_tokens == 3)
    stats = front.connection.stats()
    assert (stats.waiting, stats.running, stats.rows_used, stats.max_rows) == (0, 0, 0, 16)
    assert stats.totals.target_tokens == len(best.tokens)
    assert stats.totals.stopped + stats.totals.cut == 1
    assert front.connection.healthy


# --- admission


def test_what_is_full_refuses_and_says_when_to_come_again(small: Line) -> None:
    small.gate.clear()
    front = small.front()
    calls = [front.open(client, window=100) for client in "abcd"]
    assert [front.window(call) for call in calls] == [8, 1, 1, 0]
    refusal = front.refusal(calls[3])
    assert isinstance(refusal, Overloaded)
    assert "the queue is full: 10 sentences are waiting or running" in str(refusal)
    assert refusal.retry_after > 0


def test_a_call_that_expects_less_leaves_its_place_to_others(small: Line) -> None:
    front = small.front()
    first = front.open("a", window=100)
    front.expect(first, 1)
    second = front.open("b", window=100)
    assert front.window(second) == 7
    front.expect(second, 0)
    third = front.open("c", window=100)
    assert front.window(third) == 7


def test_a_call_without_a_window_takes_no_permit_and_keeps_the_engine() -> None:
    with line("call") as made:
        engine = make_engine(made.gate, {"max_queue": 1})
        front = Front(engine.connect)
        kept = front.open(window=0)
        assert (front.refusal(kept), front.window(kept), engine.permits.free) == (None, 0, 1)
        call = front.open(window=1)
        front.expect(call, 1)
        front.finished(front.submit(call, 0))
        late = front.submit(kept, 0)
        assert isinstance(front.error(late), EngineFailure)
        assert not engine.idle
        front.connection.send(Cancel(kept))
        assert engine.idle
        engine.close()


def test_a_window_is_the_engines_to_enforce(small: Line) -> None:
    """A front that sends more than its window finds them held, not refused."""
    small.gate.clear()
    front = small.front()
    call = front.open(window=2)
    front.expect(call, 6)
    requests = [front.submit(call, 0) for _ in range(6)]
    wait_until(lambda: front.connection.stats().waiting + front.connection.stats().running == 2)
    time.sleep(0.3)
    stats = front.connection.stats()
    assert stats.waiting + stats.running == 2
    small.gate.set()
    for request_id in requests:
        front.finished(request_id)


def test_a_window_narrows_when_nothing_is_left_for_others(small: Line) -> None:
    front = small.front()
    call = front.open("a", window=8)
    front.expect(call, 30)
    assert front.window(call) == 8
    for client in "bc":
        front.open(client, window=9)
    for _ in range(20):
        front.finished(front.submit(call, 0))
    assert front.window(call) == 5


def test_a_window_widens_when_others_have_gone(small: Line) -> None:
    front = small.front()
    other = front.open("b", window=9)
    call = front.open("a", window=8)
    front.expect(call, 30)
    assert front.window(call) == 1
    front.cancel(other)
    for _ in range(20):
        front.finished(front.submit(call, 0))
    assert front.window(call) > 3


def test_source_tokens_are_bounded_and_each_call_has_one_request_at_least(small: Line) -> None:
    small.gate.clear()
    front = small.front()
    call, other = front.open("a", window=4), front.open("b", window=4)
    front.expect(call, 2)
    front.expect(other, 1)
    long = [front.submit(call, 0, source=(5,) * 18 + (2,)) for _ in range(2)]
    short = front.submit(other, 0)
    third = front.open("c", window=4)
    assert "the queue is full: 22 source tokens" in str(front.refusal(third))
    wait_until(lambda: front.connection.stats().waiting + front.connection.stats().running == 2)
    small.gate.set()
    for request_id in (*long, short):
        front.finished(request_id)


def test_a_deadline_that_cannot_be_met_refuses_the_call_before_any_work(engine: Line) -> None:
    front = engine.front()
    learn_what_work_takes(front)
    call = front.open()
    front.expect(call, 1, work=10**9, deadline=time.monotonic() + 0.5)
    error = front.wait_for(lambda answer: getattr(answer, "call", None) == call and hasattr(answer, "error")).error
    assert isinstance(error, DeadlineUnreachable)
    assert isinstance(front.error(front.submit(call, 0)), Cancelled)


# --- endings


def test_what_can_never_run_fails_and_takes_no_place(small: Line) -> None:
    front = small.front()
    call = front.open()
    front.expect(call, 2)
    wide, good = front.submit(call, 0, beam_size=5), front.submit(call, 0)
    error = front.error(wide)
    assert isinstance(error, InvalidInput)
    assert str(error) == "beam_size: got 5; allowed: at most 4, the rows of this server"
    assert error.field == "beam_size"
    front.finished(good)
    assert isinstance(front.error(front.submit(call, 0)), Cancelled)


def test_a_cancelled_call_ends_every_request_once(small: Line) -> None:
    small.gate.clear()
    front = small.front()
    call = front.open(window=8)
    front.expect(call, 9)
    requests = [front.submit(call, 0, min_length=9) for _ in range(9)]
    front.cancel(call)
    front.cancel(call)
    small.gate.set()
    for request_id in requests:
        assert isinstance(front.error(request_id), Cancelled)
    assert sorted(front.ends()) == sorted(requests)
    again = front.open(window=100)
    wait_until(lambda: front.connection.stats().running == 0)
    assert front.window(again) > 0


def test_a_front_that_goes_leaves_nothing(small: Line) -> None:
    small.gate.clear()
    gone, other = small.front(), small.front()
    call = gone.open(window=100)
    gone.expect(call, 8)
    for _ in range(8):
        gone.submit(call, 0, min_length=9)  # six of them are as many source tokens as are allowed
    wait_until(lambda: other.connection.stats().running + other.connection.stats().waiting == 6)
    gone.connection.close()
    small.gate.set()
    wait_until(lambda: other.connection.stats().running + other.connection.stats().waiting == 0)
    wait_until(lambda: other.window(other.open(window=100)) > 0)


def test_a_request_that_makes_steps_fail_fails_alone(engine: Line) -> None:
    front = engine.front()
    call = front.open(window=30)
    front.expect(call, 11)
    engine.gate.clear()
    bad = front.submit(call, 0, source=(CULPRIT, 2))
    good = [front.submit(call, 0) for _ in range(10)]
    engine.gate.set()
    error = front.error(bad)
    assert isinstance(error, EngineFailure)
    assert "the failing token" in str(error)
    for request_id in good:
        assert front.finished(request_id).hypotheses == alone()
    wait_until(lambda: front.connection.stats().totals.failed_steps > 0)


def test_more_requests_than_announced_are_refused(engine: Line) -> None:
    front = engine.front()
    call = front.open(window=4)
    front.expect(call, 1)
    engine.gate.clear()
    first, second = front.submit(call, 0), front.submit(call, 0)
    assert "more requests than it expects" in str(front.error(second))
    engine.gate.set()
    assert front.finished(first).hypotheses == alone()


def test_a_call_refused_for_its_deadline_cancels_what_it_has_submitted(engine: Line) -> None:
    front = engine.front()
    learn_what_work_takes(front)
    call = front.open()
    engine.gate.clear()
    request_id = front.submit(call, 0, min_length=9)
    wait_until(lambda: front.connection.stats().running == 1)
    front.expect(call, 1, work=10**9, deadline=time.monotonic() + 0.01)
    wait_until(lambda: isinstance(front.refusal(call), DeadlineUnreachable))
    engine.gate.set()
    assert isinstance(front.error(request_id), Cancelled)


def test_a_front_cannot_touch_the_calls_of_another(engine: Line) -> None:
    mine, other = engine.front(), engine.front()
    call = mine.open()
    mine.expect(call, 2)
    other.cancel(call)
    other.expect(call, 0)
    assert isinstance(other.error(other.submit(call, 0)), Cancelled)
    for _ in range(2):
        assert mine.finished(mine.submit(call, 0)).hypotheses == alone()


def test_a_closed_connection_gets_no_answer(engine: Line) -> None:
    front, other = engine.front(), engine.front()
    call = front.open()
    front.expect(call, 1)
    engine.gate.clear()
    front.submit(call, 0)
    front.connection.close()
    count = len(front.answers)
    front.connection.send(Open(front.connection.new_id(), "", 4))
    engine.gate.set()
    wait_until(lambda: other.connection.stats().running == 0)
    assert len(front.answers) == count


def test_an_engine_process_that_dies_fails_what_is_there_and_what_comes() -> None:
    with line("link") as engine:
        front = engine.front()
        call = front.open()
        front.expect(call, 1)
        engine.gate.clear()
        front.submit(call, 0)
        assert engine.kill is not None
        engine.kill()
        lost = front.wait_for(lambda answer: isinstance(answer, Lost))
        assert str(lost.error) == LOST
        assert not front.connection.healthy
        count = len(front.answers)
        front.open()
        assert len(front.answers) == count + 1, "a later call is told too"


def test_a_closed_engine_refuses_calls_and_fails_requests() -> None:
    with line("call") as made:
        made.gate.clear()
        engine = make_engine(made.gate, {})
        front = Front(engine.connect)
        call = front.open()
        front.expect(call, 2)
        requests = [front.submit(call, 0, min_length=9) for _ in range(2)]
        made.gate.set()
        engine.close()
        assert {type(front.last(request_id)) for request_id in requests} <= {Failed, Finished}
        late = front.open()
        assert isinstance(front.refusal(late), ShuttingDown)
        assert engine.idle


def test_a_front_that_raises_is_logged_and_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    with line("call") as engine:

        def fail(answers: object) -> None:
            raise RuntimeError("not today")

        bad = engine.connect(fail)
        front = engine.front()
        call = bad.new_id()
        bad.send(Open(call, "", 4))
        bad.send(Expect(call, 1, 0, None))
        bad.send(Submit(call, make_request(bad.new_id())))
        good = front.open()
        front.expect(good, 1)
        front.finished(front.submit(good, 0))
        assert "a front failed on answers" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("beam_size", 9, "1 to 4"),
        Overloaded("full", 3.5),
        errors.BundleError("a/b", ["one", "two"]),
        ShuttingDown("later"),
        EngineFailure("no step"),
    ],
)
def test_errors_cross_a_link_unchanged(error: errors.DragomanError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert again.__dict__ == error.__dict__


# --- anything at all


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_is_sent_every_request_ends_once_and_all_permits_come_back(kind: str, seed: int) -> None:
    rng = random.Random(seed)
    with line(kind, max_queue=12, max_queue_tokens=60, max_rows=4) as engine:
        fronts = [engine.front(), engine.front()]
        calls: list[tuple[Front, int]] = []
        submitted: list[tuple[Front, int, dict[str, Any]]] = []
        for _ in range(400):
            what = rng.randrange(12)
            front = rng.choice(fronts)
            if what == 0 or not calls:
                call = front.open(rng.choice("abc"), window=rng.randint(1, 9))
                front.expect(call, rng.randint(0, 12))
                calls.append((front, call))
            elif what == 1:
                front, call = rng.choice(calls)
                front.cancel(call)
            elif what == 2:
                engine.gate.clear()
                time.sleep(0.001)
                engine.gate.set()
            else:
                front, call = rng.choice(calls[-4:])
                options: dict[str, Any] = {"beam_size": rng.choice([1, 1, 2, 4, 5]), "max_length": rng.randint(1, 6)}
                options["stream"] = rng.random() < 0.3
                if rng.random() < 0.05:
                    options["source"] = (CULPRIT, 2)
                submitted.append((front, front.submit(call, 0, **options), options))
        for front, call in calls:
            front.cancel(call)
        for front, request_id, options in submitted:
            event = front.last(request_id)
            if isinstance(event, Finished):
                assert event.hypotheses == alone(**options)
        for front in fronts:
            mine = [request_id for its, request_id, _ in submitted if its is front]
            assert sorted(front.ends()) == sorted(mine)
        final = fronts[0]
        wait_until(lambda: final.connection.stats().running + final.connection.stats().waiting == 0)
        assert final.connection.healthy
        assert final.window(final.open("z", window=100)) == 12 * 4 // 5
