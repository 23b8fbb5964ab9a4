"""The runner for GPUs on a GPU made of host memory: what it queues, in which order, and what comes of it."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import Join, Runner, StepPlan, StepResult
from dragoman_service.engine.request import DecodingOptions, Finished, Hypothesis, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import BundleError, InvalidInput
from dragoman_service.runtime.cuda_runner import CudaRunner, parts, row_buckets
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.runtime.settings import GpuOptions
from support.fake_cuda import PACES, FakeCuda
from support.parity import EVERY_KIND, encode
from support.tiny import sentences

MAX_ROWS = 12


class Recorder(Runner):
    """Passes plans on, and keeps them."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.max_positions = runner.max_positions
        self.plans: list[StepPlan] = []

    def prepare(self) -> None:
        self.runner.prepare()

    def run(self, plan: StepPlan) -> StepResult:
        self.plans.append(plan)
        return self.runner.run(plan)

    def probe(self) -> None:
        pass

    def close(self) -> None:
        self.runner.close()


def make(bundle: Bundle, cuda: FakeCuda, max_rows: int = MAX_ROWS, **options: object) -> CudaRunner:
    gpu = GpuOptions(**options)
    return CudaRunner(bundle, cuda, max_rows=max_rows, options=gpu, open_session=cuda.open_session)


def decode(
    runner: Runner, requests: Sequence[Request], *, max_steps: int, arrivals: int = 5
) -> list[tuple[Hypothesis, ...]]:
    """Decode requests that come a few at a time."""
    scheduler = Scheduler(
        max_rows=MAX_ROWS,
        begin_id=1,
        end_id=2,
        max_steps=max_steps,
        look_ahead=True,
        max_encode_tokens=60,
        max_positions=runner.max_positions,
    )
    coming = list(requests)
    done: dict[int, tuple[Hypothesis, ...]] = {}
    while coming or scheduler.has_work:
        for request in coming[:arrivals]:
            scheduler.add(request, 0.0)
        del coming[:arrivals]
        plan = scheduler.plan()
        if plan is not None:
            for event in scheduler.commit(plan, runner.run(plan), 0.0):
                assert isinstance(event, Finished)
                done[event.request_id] = event.hypotheses
    return [done[request.id] for request in requests]


@pytest.fixture(scope="module")
def requests(tiny_fp16_bundle: Bundle) -> list[Request]:
    sources = encode(tiny_fp16_bundle, sentences(30, seed=5))
    return [Request(i, tuple(ids), 10 + i) for i, ids in enumerate(sources)]


@pytest.fixture(scope="module")
def reference(tiny_fp16_bundle: Bundle) -> Iterator[OrtRunner]:
    runner = OrtRunner(tiny_fp16_bundle, max_rows=MAX_ROWS, threads=1)
    yield runner
    runner.close()


def with_options(requests: Sequence[Request], options: Sequence[DecodingOptions]) -> list[Request]:
    return [dataclasses.replace(request, options=options[request.id % len(options)]) for request in requests]


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("graphs", [True, False])
def test_translations_are_those_of_the_cpu(
    tiny_fp16_bundle: Bundle, reference: OrtRunner, requests: list[Request], pace: str, graphs: bool
) -> None:
    wanted = with_options(requests, EVERY_KIND)
    runner = Recorder(make(tiny_fp16_bundle, FakeCuda(pace), graphs=graphs))
    assert decode(runner, wanted, max_steps=1) == decode(reference, wanted, max_steps=1)
    runner.close()
    assert any(plan.copies for plan in runner.plans)
    assert any(len(plan.adjustments) for plan in runner.plans)
    assert any(plan.upcoming for plan in runner.plans)


@pytest.mark.parametrize("pace", PACES)
def test_several_steps_in_a_row_give_what_single_ones_do(
    tiny_fp16_bundle: Bundle, reference: OrtRunner, requests: list[Request], pace: str
) -> None:
    cuda = FakeCuda(pace)
    runner = Recorder(make(tiny_fp16_bundle, cuda, steps=4))
    assert decode(runner, requests, max_steps=4) == decode(reference, requests, max_steps=1)
    assert {plan.num_steps for plan in runner.plans} == {1, 4}
    runner.close()


def test_several_steps_need_one_look(tiny_fp16_bundle: Bundle) -> None:
    cuda = FakeCuda()
    runner = make(tiny_fp16_bundle, cuda, steps=4)
    waits = cuda.runtime.waits
    result = runner.run(StepPlan((), (Join((5, 6, 2), (0,)),), (1,), (0,), (3,), 1, num_steps=4))
    assert cuda.runtime.waits == waits + 1
    assert len(result.steps) == 4


def test_steps_past_the_last_position_harm_nobody(tiny_fp16_bundle: Bundle) -> None:
    last = tiny_fp16_bundle.manifest.limits.max_target_tokens - 1
    runner = make(tiny_fp16_bundle, FakeCuda(), steps=4)
    steps = (1, 1), (0, 0), (3, 3)
    runner.run(StepPlan((), (Join((5, 6, 2), (0, 1)),), *steps, 1))
    result = runner.run(StepPlan((), (), (5, 6), (last, 1), (3, 3), 1, num_steps=4))
    assert len(result.steps) == 4


def test_more_that_is_upcoming_than_there_is_room_for_is_left_for_later(tiny_fp16_bundle: Bundle) -> None:
    runner = make(tiny_fp16_bundle, FakeCuda())
    upcoming = tuple((5 + number % 50, 6 + number // 50, 2) for number in range(1000))
    plan = StepPlan((), (Join((5, 6, 2), (0,)),), (1,), (0,), (3,), 1, upcoming=upcoming)
    assert len(runner.run(plan).token_ids) == 1


def test_it_is_prepared_by_capturing_and_by_the_golden_sentences(tiny_fp16_bundle: Bundle) -> None:
    wrong = dataclasses.replace(tiny_fp16_bundle.golden[0], target_ids=(5, 5, 5))
    make(tiny_fp16_bundle, FakeCuda()).prepare()
    runner = make(dataclasses.replace(tiny_fp16_bundle, golden=(wrong,)), FakeCuda())
    with pytest.raises(BundleError, match="golden sentence"):
        runner.prepare()


def test_closing_gives_all_memory_back(tiny_fp16_bundle: Bundle) -> None:
    cuda = FakeCuda()
    runner = make(tiny_fp16_bundle, cuda)
    runner.prepare()
    runner.close()
    runner.close()
    assert not cuda.runtime.blocks


def test_memory_does_not_grow_with_the_work(tiny_fp16_bundle: Bundle, requests: list[Request]) -> None:
    cuda = FakeCuda()
    runner = make(tiny_fp16_bundle, cuda)
    wanted = with_options(requests, EVERY_KIND)
    blocks = []
    for seed in (1, 2, 3, 1, 2, 3):
        decode(runner, random.Random(seed).sample(wanted, len(wanted)), max_steps=4)
        blocks.append(len(cuda.runtime.blocks))
    assert blocks[2:] == blocks[2:3] * 4


@pytest.mark.parametrize("pace", PACES)
def test_what_joins_is_read_before_the_next_is_encoded_over_it(
    tiny_fp16_bundle: Bundle, reference: OrtRunner, pace: str
) -> None:
    runner = make(tiny_fp16_bundle, FakeCuda(pace))
    sources = [(5, 6, 2), (7, 8, 2), (9, 10, 2), (11, 12, 2)]
    for row, (source, following) in enumerate(zip(sources, [*sources[1:], ()], strict=True)):
        rows = row + 1
        plan = StepPlan((), (Join(source, (row,)),), (1,) * rows, (0,) * rows, (3,) * rows, 2)
        found = runner.run(dataclasses.replace(plan, upcoming=(following,) if following else ()))
        assert found.log_probs.tolist() == reference.run(plan).log_probs.tolist()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_candidates": 0}, "num_candidates: got 0"),
        ({"tokens": (1,) * 13}, "a plan of 13 rows; this runner has 12"),
        ({"positions": (1000,)}, "1001 positions; the model's limit"),
        ({"source_lengths": (1000,)}, "1000 source positions; the model's limit"),
        ({"num_steps": 9}, "a plan of 9 steps"),
    ],
)
def test_plans_that_cannot_be_carried_out(tiny_fp16_bundle: Bundle, changes: dict[str, object], message: str) -> None:
    plan = dataclasses.replace(StepPlan((), (), (1,), (0,), (1,), 1), **changes)
    with pytest.raises((InvalidInput, ValueError), match=message):
        make(tiny_fp16_bundle, FakeCuda()).run(plan)


def test_rows_are_padded_to_powers_of_two_unless_told_otherwise() -> None:
    assert row_buckets(GpuOptions(), 1) == (1,)
    assert row_buckets(GpuOptions(), 48) == (1, 2, 4, 8, 16, 32, 48)
    assert row_buckets(GpuOptions(graph_rows=(24, 12, 99)), 48) == (12, 24, 48)


def test_joins_are_encoded_so_many_tokens_at_a_time() -> None:
    joins = [Join((5,) * length, ()) for length in (3, 3, 9, 1, 2)]
    assert [[len(join.source) for join in part] for part in parts(joins, 6)] == [[3, 3], [9], [1, 2]]
