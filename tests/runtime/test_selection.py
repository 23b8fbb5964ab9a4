"""Rows whose candidates are searched apart: what they get, and that the others get what they would have got."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import Adjustment, Adjustments, Join, Masks, Runner, StepPlan, StepResult
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.cuda_runner import CudaRunner
from dragoman_service.runtime.runner import OrtRunner
from dragoman_service.runtime.settings import GpuOptions
from support.fake_cuda import FakeCuda
from support.format_2 import bundle_of_format_2

ROWS = 9
SOURCES = [tuple(random.Random(row).choices(range(4, 300), k=3 + 5 * row % 11)) for row in range(ROWS)]
CHANGES = Adjustments.of([Adjustment(2, 7, bias=-np.inf), Adjustment(3, 9, penalty=1.5), Adjustment(4, 11, bias=3.0)])


def plan(position: int = 0, **changes: object) -> StepPlan:
    joins = tuple(Join(source, (row,)) for row, source in enumerate(SOURCES))
    lengths = tuple(map(len, SOURCES))
    made = StepPlan((), joins, (5,) * ROWS, (position,) * ROWS, lengths, num_candidates=2, adjustments=CHANGES)
    return dataclasses.replace(made, **changes)


def masks(words: int, *rows: int) -> Masks:
    allowed = np.random.default_rng(1).random((len(rows), words)) < 0.3
    allowed[:, 11] = True
    return Masks(np.array(rows, np.int64), allowed)


@pytest.fixture(scope="module", params=["CPU", "GPU"])
def runner(request: pytest.FixtureRequest, any_tiny_bundle: Bundle) -> Iterator[Runner]:
    if request.param == "GPU" and any_tiny_bundle.manifest.precision != "fp16":
        pytest.skip("GPUs serve fp16")
    made: Runner = OrtRunner(any_tiny_bundle, max_rows=ROWS, threads=1)
    if request.param == "GPU":
        made.close()
        cuda = FakeCuda("lazy")
        options = GpuOptions(graphs=False)
        made = CudaRunner(any_tiny_bundle, cuda, max_rows=ROWS, options=options, open_session=cuda.open_session)
    yield made
    made.close()


def run(runner: Runner, wanted: StepPlan) -> StepResult:
    """The result in arrays that the next step does not overwrite."""
    found = runner.run(wanted)
    arrays = {name: np.array(getattr(found, name)) for name in ("token_ids", "log_probs", "wide_ids", "wide_log_probs")}
    return dataclasses.replace(found, **arrays, aligned=tuple(map(np.array, found.aligned)))


def test_wide_rows_have_many_candidates_and_the_others_are_as_without_them(
    runner: Runner, any_tiny_bundle: Bundle
) -> None:
    everything = run(runner, plan(num_candidates=40))
    found = run(runner, plan(wide_rows=(6, 1, 2), num_wide_candidates=40))
    assert found.wide_ids.shape == (3, 40)
    assert np.array_equal(found.wide_ids, everything.token_ids[[6, 1, 2]])
    assert np.array_equal(found.wide_log_probs, everything.log_probs[[6, 1, 2]])
    assert found.token_ids.shape == (ROWS, 2)
    assert np.array_equal(found.token_ids, everything.token_ids[:, :2])
    assert np.array_equal(found.log_probs, everything.log_probs[:, :2])


def test_masked_rows_have_allowed_tokens_alone(runner: Runner, any_tiny_bundle: Bundle) -> None:
    vocabulary = any_tiny_bundle.manifest.vocab_size
    most = any_tiny_bundle.manifest.limits.max_candidates
    everything = run(runner, plan(num_candidates=most))
    given = masks(vocabulary, 8, 3)
    found = run(runner, plan(masks=given))
    for row in range(ROWS):
        ids, log_probs = everything.token_ids[row], everything.log_probs[row]
        if row in (3, 8):
            kept = given.allowed[list(given.rows).index(row)][ids]
            ids, log_probs = ids[kept], log_probs[kept]
        assert found.token_ids[row].tolist() == ids[:2].tolist()
        assert found.log_probs[row].tolist() == log_probs[:2].tolist()


def test_a_row_may_be_wide_and_masked(runner: Runner, any_tiny_bundle: Bundle) -> None:
    vocabulary = any_tiny_bundle.manifest.vocab_size
    given = masks(vocabulary, 4, 0)
    alone = run(runner, plan(masks=given, num_candidates=10))
    found = run(runner, plan(masks=given, wide_rows=[5, 4], num_wide_candidates=10))
    assert np.array_equal(found.wide_ids[1], alone.token_ids[4])
    assert np.array_equal(found.wide_ids[0], run(runner, plan(num_candidates=10)).token_ids[5])
    assert np.array_equal(found.token_ids[0], alone.token_ids[0, :2])


def test_a_row_with_fewer_allowed_tokens_than_candidates_has_no_others(runner: Runner, any_tiny_bundle: Bundle) -> None:
    allowed = np.zeros((1, any_tiny_bundle.manifest.vocab_size), np.bool_)
    allowed[0, 11] = True
    found = run(runner, plan(masks=Masks(np.array([1]), allowed)))
    assert found.token_ids[1, 0] == 11
    assert np.isfinite(found.log_probs).sum(axis=1).tolist() == [2, 1, *[2] * (ROWS - 2)]


def test_a_step_after_one_with_selected_rows_has_none(runner: Runner) -> None:
    before = run(runner, plan())
    run(runner, plan(wide_rows=(0,), num_wide_candidates=5, masks=masks(300, 1)))
    after = run(runner, plan())
    assert after.wide_ids.tolist() is None
    assert np.array_equal(after.token_ids, before.token_ids)
    assert np.array_equal(after.log_probs, before.log_probs)


def test_every_row_has_an_aligned_position_in_its_source(runner: Runner) -> None:
    (aligned,) = run(runner, plan()).aligned
    assert aligned.shape == (ROWS,)
    assert all(0 <= position < len(source) for position, source in zip(aligned, SOURCES, strict=True))
    assert len(set(aligned.tolist())) > 2


def test_wide_rows_ask_for_no_more_than_there_is(runner: Runner, any_tiny_bundle: Bundle) -> None:
    most = any_tiny_bundle.manifest.limits.max_candidates
    assert run(runner, plan(wide_rows=(0,), num_wide_candidates=most)).wide_ids.shape == (1, most)
    for number in (0, most + 1):
        with pytest.raises(InvalidInput, match=f"num_wide_candidates: got {number}"):
            runner.run(plan(wide_rows=(0,), num_wide_candidates=number))


def test_bundles_of_format_2_give_the_same(tmp_path: Path) -> None:
    bundle = bundle_of_format_2(tmp_path / "tiny" / "1")
    assert "selected_rows" not in bundle.manifest.tensors.decoder_inputs
    runner = OrtRunner(bundle, max_rows=ROWS, threads=1)
    test_wide_rows_have_many_candidates_and_the_others_are_as_without_them(runner, bundle)
    test_masked_rows_have_allowed_tokens_alone(runner, bundle)
    test_a_row_may_be_wide_and_masked(runner, bundle)
    test_a_row_with_fewer_allowed_tokens_than_candidates_has_no_others(runner, bundle)
    assert runner.run(plan()).aligned == ()
    runner.close()
