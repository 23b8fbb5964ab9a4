"""Whatever becomes of the neighbours, a translation is that of the request alone, to the last bit of every score."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import RowCopy, Runner, StepPlan, StepResult
from dragoman_service.engine.request import Failed, Finished, Hypothesis, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import Cancelled
from dragoman_service.runtime.runner import OrtRunner
from support import invariants
from support.builders import run_to_end
from support.parity import EVERY_KIND, encode
from support.tiny import sentences

MAX_ROWS = 12
NUM_REQUESTS = 40


class Recorder(Runner):
    """Passes plans on, and keeps what must have happened for the test to mean something."""

    def __init__(self, runner: OrtRunner) -> None:
        self.runner = runner
        self.max_positions = runner.max_positions
        self.copies: list[RowCopy] = []
        self.late_joins = 0

    def run(self, plan: StepPlan) -> StepResult:
        self.copies += plan.copies
        self.late_joins += len(plan.joins) if max(plan.positions) > 0 else 0
        return self.runner.run(plan)

    def probe(self) -> None:
        pass

    def close(self) -> None:
        self.runner.close()


@pytest.fixture(scope="module")
def runner(any_tiny_bundle: Bundle) -> Iterator[OrtRunner]:
    runner = OrtRunner(any_tiny_bundle, max_rows=MAX_ROWS, threads=1)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def requests(any_tiny_bundle: Bundle) -> list[Request]:
    rng = random.Random(5)
    sources = encode(any_tiny_bundle, sentences(NUM_REQUESTS, seed=5))
    return [
        Request(i, tuple(ids), rng.randint(10, 45), EVERY_KIND[i % len(EVERY_KIND)]) for i, ids in enumerate(sources)
    ]


@pytest.fixture(scope="module")
def alone(runner: OrtRunner, requests: list[Request]) -> list[tuple[Hypothesis, ...]]:
    """The outcome of each request that has the runner to itself."""
    outcomes = []
    for request in requests:
        scheduler = new_scheduler(runner.bundle)
        scheduler.add(request, 0.0)
        last = run_to_end(scheduler, runner)[-1]
        assert isinstance(last, Finished)
        outcomes.append(last.hypotheses)
    return outcomes


def new_scheduler(bundle: Bundle) -> Scheduler:
    special = bundle.manifest.special_ids
    return Scheduler(
        max_rows=MAX_ROWS,
        end_id=special.end,
        begin_id=special.begin,
        max_positions=bundle.manifest.limits.max_target_tokens,
    )


@pytest.mark.parametrize("seed", range(3))
def test_beside_neighbours_that_join_late_and_are_cancelled(
    runner: OrtRunner, requests: list[Request], alone: list[tuple[Hypothesis, ...]], seed: int
) -> None:
    rng = random.Random(seed)
    recorder, scheduler = Recorder(runner), new_scheduler(runner.bundle)
    coming = rng.sample(requests, NUM_REQUESTS)
    finished: dict[int, Finished] = {}
    num_aborted = 0

    def abort_now_and_then() -> None:
        nonlocal num_aborted
        running = [request.request_id for request in invariants.snapshot_of(scheduler).running]
        if running and rng.random() < 0.06:
            (failed,) = scheduler.abort(rng.choice(running), Cancelled("the caller has gone"))
            assert isinstance(failed, Failed)
            num_aborted += 1

    while coming or scheduler.has_work:
        for _ in range(min(len(coming), rng.choice([0, 0, 1, 3]))):
            scheduler.add(coming.pop(), 0.0)
        abort_now_and_then()
        if (plan := scheduler.plan()) is None:
            continue
        result = recorder.run(plan)
        abort_now_and_then()  # while the step was under way
        events = scheduler.commit(plan, result, 0.0)
        finished |= {event.request_id: event for event in events if isinstance(event, Finished)}
    assert len(finished) + num_aborted == NUM_REQUESTS
    for request_id, outcome in finished.items():
        assert outcome.hypotheses == alone[request_id], requests[request_id]
    assert min(len(finished), num_aborted, recorder.late_joins) >= 8
    assert any(copy.cross for copy in recorder.copies), "no row was moved"
    assert any(not copy.cross for copy in recorder.copies), "no beam went on in another row"
