from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import Adjustment, Adjustments, Join, RowCopy, StepPlan, StepResult
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.runner import OrtRunner, encoder_batches

BEGIN, END = 1, 2
CANDIDATES = 20
MAX_ROWS = 64

Row = tuple[tuple[int, ...], list[int]]
"""Source ids, and the tokens to feed."""


@pytest.fixture(scope="module", params=[1, 2], ids=["1 thread", "2 threads"])
def runner(request: pytest.FixtureRequest, tiny_bundle: Bundle) -> Iterator[OrtRunner]:
    runner = OrtRunner(tiny_bundle, max_rows=MAX_ROWS, threads=request.param)
    yield runner
    runner.close()


def random_row(rng: random.Random, source_length: int, target_length: int = 70) -> Row:
    source = (*rng.choices(range(4, 300), k=source_length - 1), END)
    return source, [BEGIN, *rng.choices(range(4, 300), k=target_length)]


def join_all(rows: Sequence[Row]) -> tuple[Join, ...]:
    return tuple(Join(source, (row,)) for row, (source, _) in enumerate(rows))


def step(rows: Sequence[Row], position: int, joins: tuple[Join, ...] = (), **changes: object) -> StepPlan:
    plan = StepPlan(
        copies=(),
        joins=joins,
        tokens=tuple(tokens[position] for _, tokens in rows),
        positions=(position,) * len(rows),
        source_lengths=tuple(len(source) for source, _ in rows),
        num_candidates=CANDIDATES,
    )
    return dataclasses.replace(plan, **changes)


def decode(runner: OrtRunner, rows: Sequence[Row], steps: int) -> list[StepResult]:
    return [run(runner, step(rows, i, join_all(rows) if i == 0 else ())) for i in range(steps)]


def run(runner: OrtRunner, plan: StepPlan) -> StepResult:
    """The result in lists, which the next step does not overwrite."""
    result = runner.run(plan)
    return dataclasses.replace(result, token_ids=result.token_ids.tolist(), log_probs=result.log_probs.tolist())


def candidates(results: Sequence[StepResult], row: int) -> list[tuple[list[int], list[float]]]:
    return [(result.token_ids[row], result.log_probs[row]) for result in results]


@pytest.mark.parametrize("source_length", [1, 9, 40])
@pytest.mark.parametrize("neighbours", ["as long", "of any length", "much longer"])
@pytest.mark.parametrize("num_rows", [2, 3, 7, 16, 33, 64])
def test_a_row_is_the_same_to_the_last_bit_in_any_batch(
    runner: OrtRunner, num_rows: int, neighbours: str, source_length: int
) -> None:
    rng = random.Random(num_rows * source_length)
    row = random_row(rng, source_length)
    lengths = {"as long": (source_length, source_length), "of any length": (1, 30), "much longer": (90, 150)}[
        neighbours
    ]
    rows = [random_row(rng, rng.randint(*lengths)) for _ in range(num_rows - 1)]
    place = rng.randrange(num_rows)
    rows.insert(place, row)
    steps = 40 if num_rows == 7 else 6  # at 7 rows, long enough for the cache to grow under way
    assert candidates(decode(runner, rows, steps), place) == candidates(decode(runner, [row], steps), 0)


def test_threads_change_no_bit(tiny_bundle: Bundle) -> None:
    rows = [random_row(random.Random(i), 5 + i) for i in range(5)]
    results = [decode(OrtRunner(tiny_bundle, max_rows=8, threads=threads), rows, 5) for threads in (1, 2)]
    assert [r.log_probs for r in results[0]] == [r.log_probs for r in results[1]]


@pytest.mark.parametrize("start", [35, 27], ids=["", "while the cache grows"])
def test_a_row_that_joins_late_and_is_moved_is_the_same_to_the_last_bit(runner: OrtRunner, start: int) -> None:
    rng = random.Random(1)
    late, *others = [random_row(rng, length) for length in (12, 5, 30, 7)]
    alone = candidates(decode(runner, [late], 10), 0)
    decode(runner, others, start)
    found = []
    for i in range(10):  # joins as row 3; after five steps row 1 leaves, and it moves there
        moved = i >= 5
        rows = [others[0], late if moved else others[1], others[2], *([] if moved else [late])]
        at = [i if row is late else start + i for row in rows]
        result = run(
            runner,
            StepPlan(
                copies=(RowCopy(3, 1, length=5, cross=len(late[0])),) if i == 5 else (),
                joins=(Join(late[0], (3,)),) if i == 0 else (),
                tokens=tuple(tokens[position] for (_, tokens), position in zip(rows, at, strict=True)),
                positions=tuple(at),
                source_lengths=tuple(len(source) for source, _ in rows),
                num_candidates=CANDIDATES,
            ),
        )
        found += candidates([result], rows.index(late))
    assert found == alone


def test_a_copied_row_goes_on_like_the_original(runner: OrtRunner) -> None:
    row = random_row(random.Random(2), 9)
    rows = [row, row]
    joins = (Join(row[0], (0, 1)),)
    run(runner, step(rows, 0, joins))
    run(runner, step(rows, 1, tokens=(row[1][1], 5)))  # row 1 goes another way,
    result = run(runner, step(rows, 2, copies=(RowCopy(0, 1, length=2),)))  # and is called back
    assert result.log_probs[0] == result.log_probs[1]
    assert result.token_ids[0] == result.token_ids[1]


def test_copies_are_made_in_order_and_before_joins(runner: OrtRunner) -> None:
    rng = random.Random(3)
    first, second, third = (random_row(rng, 6) for _ in range(3))
    expected = candidates(decode(runner, [first], 2), 0)[1]
    decode(runner, [first, second, second], 1)
    copies = (RowCopy(0, 1, 1, cross=6), RowCopy(1, 2, 1, cross=6))
    plan = step([third, second, first], 1, copies=copies, joins=(Join(third[0], (0,)),), positions=(0, 1, 1))
    assert candidates([run(runner, plan)], 2)[0] == expected


def test_log_probs_are_normalised_over_the_whole_vocabulary(runner: OrtRunner, tiny_bundle: Bundle) -> None:
    rows = [random_row(random.Random(i), 4) for i in range(3)]
    most = tiny_bundle.manifest.limits.max_candidates
    result = run(runner, step(rows, 0, join_all(rows), num_candidates=most))
    np.testing.assert_allclose(np.exp(result.log_probs).sum(axis=1), 1, atol=1e-5)
    for ids, log_probs in zip(result.token_ids, result.log_probs, strict=True):
        assert set(ids) == set(range(most + 3)) - {0, 1, 3}  # padding, begin and unknown are never candidates
        assert log_probs == sorted(log_probs, reverse=True)


def test_adjustments_change_one_logit_of_one_row(runner: OrtRunner, tiny_bundle: Bundle) -> None:
    rows = [random_row(random.Random(i), 4) for i in range(3)]
    most = tiny_bundle.manifest.limits.max_candidates
    plan = step(rows, 0, join_all(rows), num_candidates=most)
    plain = run(runner, plan)
    top, low = plain.token_ids[1][0], plain.token_ids[1][-1]
    adjustments = Adjustments.of([Adjustment(1, top, bias=float("-inf")), Adjustment(1, low, penalty=1.5, bias=0.25)])
    changed = run(runner, dataclasses.replace(plan, adjustments=adjustments))
    assert changed.log_probs[0] == plain.log_probs[0]
    assert changed.log_probs[2] == plain.log_probs[2]
    assert top not in changed.token_ids[1][:-1]
    assert changed.log_probs[1][-1] == float("-inf")  # its place, or that of another id that is never produced
    assert changed.token_ids[1].index(low) < plain.token_ids[1].index(low)
    np.testing.assert_allclose(np.exp(changed.log_probs[1]).sum(), 1, atol=1e-5)
    assert run(runner, plan).log_probs == plain.log_probs  # and is forgotten afterwards


@pytest.mark.parametrize(("penalty", "bias"), [(2.0, 0.0), (1.3, -0.5)])
def test_a_penalty_divides_what_is_positive_and_multiplies_what_is_negative(
    runner: OrtRunner, tiny_bundle: Bundle, penalty: float, bias: float
) -> None:
    """Logits are known only up to a constant, so it is found from one token and must explain all the others."""
    row = random_row(random.Random(5), 4)
    plan = step([row], 0, join_all([row]), num_candidates=tiny_bundle.manifest.limits.max_candidates)
    plain = run(runner, plan)
    ids, before = plain.token_ids[0], np.array(plain.log_probs[0])

    def adjusted(i: int) -> float:
        """The logit of candidate i after adjustment, on the scale of `before`."""
        result = run(
            runner, dataclasses.replace(plan, adjustments=Adjustments.of([Adjustment(0, ids[i], penalty, bias)]))
        )
        after = dict(zip(result.token_ids[0], result.log_probs[0], strict=True))
        other = 1 if i != 1 else 2
        return after[ids[i]] - after[ids[other]] + before[other]

    # The likeliest has a positive logit x: x / p + b = x + c. Hence x, and the constant between logits and log-probs.
    x = (bias - (adjusted(0) - before[0])) / (1 - 1 / penalty)
    logits = before - before[0] + x
    assert x > 0 > logits[-1]
    for i in (3, len(ids) // 2, len(ids) - 1):
        expected = (logits[i] * penalty if logits[i] < 0 else logits[i] / penalty) + bias
        assert adjusted(i) - before[i] == pytest.approx(expected - logits[i], abs=1e-3)


def test_the_caches_grow_with_a_plan_and_shrink_when_the_batch_has_emptied(tiny_bundle: Bundle) -> None:
    runner = OrtRunner(tiny_bundle, max_rows=2, threads=1)
    small = runner.cache.num_bytes
    long, short = random_row(random.Random(6), 100), random_row(random.Random(7), 5)
    decode(runner, [long], 40)
    assert runner.cache.cross_attention.capacity == 128
    assert runner.cache.self_attention.capacity == 64
    assert runner.cache.num_bytes > small
    run(runner, step([long, short], 40, positions=(40, 0), joins=(Join(short[0], (1,)),)))
    assert runner.cache.cross_attention.capacity == 128
    decode(runner, [short], 1)
    assert (runner.cache.self_attention.capacity, runner.cache.cross_attention.capacity) == (32, 32)


def test_plans_that_cannot_be_run(tiny_bundle: Bundle) -> None:
    runner = OrtRunner(tiny_bundle, max_rows=2, threads=1)
    rows = [random_row(random.Random(i), 4) for i in range(3)]
    with pytest.raises(ValueError, match="3 rows; this runner has 2"):
        run(runner, step(rows, 0, join_all(rows)))
    with pytest.raises(InvalidInput, match="num_candidates: got 1000"):
        run(runner, step(rows[:1], 0, join_all(rows[:1]), num_candidates=1000))
    with pytest.raises(ValueError, match="the model's limit is 159"):
        run(runner, step(rows[:1], 0, positions=(159,)))
    with pytest.raises(InvalidInput, match="max_rows"):
        OrtRunner(tiny_bundle, max_rows=0, threads=1)


def test_warming_up_and_golden_sentences(tiny_bundle: Bundle) -> None:
    runner = OrtRunner(tiny_bundle, max_rows=8, threads=1)
    runner.warm_up()
    assert runner.verify_golden() == []
    runner.close()
    runner.close()


def lengths_of_batches(*lengths: int, mixed: bool) -> list[list[int]]:
    joins = [Join((5,) * length, (row,)) for row, length in enumerate(lengths)]
    batches = list(encoder_batches(joins, max_tokens=8, mixed=mixed))
    assert sorted(join.rows for batch in batches for join in batch) == [join.rows for join in joins]
    return [[len(join.source) for join in batch] for batch in batches]


def test_encoder_batches_hold_a_bounded_number_of_tokens_with_padding() -> None:
    assert lengths_of_batches(3, 4, 3, 3, 4, 20, 1, 1, mixed=True) == [[20], [4, 4], [3, 3], [3, 1], [1]]
    assert lengths_of_batches(1, 4, mixed=True) == [[4, 1]]


def test_encoder_batches_of_format_2_hold_one_length() -> None:
    assert lengths_of_batches(3, 4, 3, 3, 4, 20, 1, mixed=False) == [[20], [4, 4], [3, 3], [3], [1]]


def test_no_joins_are_no_batch() -> None:
    assert lengths_of_batches(mixed=True) == []
