"""What a hypothesis has beside its tokens: alignments and the score of its end; and runaway repetition."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dragoman_service.engine.plan import Adjustment, StepPlan, StepResult
from dragoman_service.engine.request import Event, Finished, FinishReason, Hypothesis, Progress, Request, Sampling
from dragoman_service.engine.search import repetition
from support.builders import make_request, make_scheduler, run_to_end
from support.fake_runner import END, Candidates, FakeRunner
from support.worlds import World


class AligningRunner(FakeRunner):
    """Attends to a position that depends on all tokens that the row was fed."""

    def run(self, plan: StepPlan) -> StepResult:
        result = super().run(plan)
        assert plan.num_steps == 1
        aligned = [attended(self._fed[row][: int(plan.positions[row]) + 1], plan, row) for row in range(plan.num_rows)]
        return dataclasses.replace(result, aligned=(np.array(aligned),))


def attended(fed: Sequence[int], plan: StepPlan, row: int) -> int:
    return hash(tuple(fed)) % int(plan.source_lengths[row])


def expected_alignment(request: Request, hypothesis: Hypothesis) -> tuple[int, ...]:
    """As `AligningRunner` has it, from the tokens alone."""
    fed = [1, *request.forced]
    aligned = []
    for number, token in enumerate([*hypothesis.tokens, END]):
        given = number < len(request.target_prefix)
        aligned.append(-1 if given else hash(tuple(fed)) % len(request.source))
        fed.append(token)
    return tuple(aligned if hypothesis.finish_reason is FinishReason.STOP else aligned[:-1])


def run_all(requests: Sequence[Request], runner: FakeRunner) -> dict[int, Finished]:
    scheduler = make_scheduler(max_rows=runner_rows(runner))
    for request in requests:
        scheduler.add(request, 0.0)
    return {event.request_id: event for event in run_to_end(scheduler, runner) if isinstance(event, Finished)}


def runner_rows(runner: FakeRunner) -> int:
    return len(runner._sources)


def test_each_token_has_the_position_attended_to() -> None:
    rng = random.Random(1)
    world = World(long=0.0)
    requests = [dataclasses.replace(world.request(rng, number), alignments=number % 3 > 0) for number in range(120)]
    finished = run_all(requests, AligningRunner(16))
    for request in requests:
        for hypothesis in finished[request.id].hypotheses:
            assert hypothesis.alignment == (expected_alignment(request, hypothesis) if request.alignments else ())


def test_without_a_model_that_aligns_there_are_none() -> None:
    finished = run_all([dataclasses.replace(make_request(), alignments=True)], FakeRunner(8))
    assert finished[1].hypotheses[0].alignment == ()


@pytest.mark.parametrize("options", [{}, {"beam_size": 4, "num_hypotheses": 4}, {"sampling": Sampling(seed=1)}])
def test_scores_add_up(options: dict[str, Any]) -> None:
    finished = run_all(
        [make_request(number, length_penalty=0.0, max_length=8, **options) for number in range(30)], FakeRunner(8)
    )
    reasons = set()
    for event in finished.values():
        for hypothesis in event.hypotheses:
            reasons.add(hypothesis.finish_reason)
            assert math.isclose(sum(hypothesis.token_scores) + hypothesis.end_score, hypothesis.score)
            assert (hypothesis.end_score < 0) is (hypothesis.finish_reason is FinishReason.STOP)
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}


# --- coverage


@pytest.mark.parametrize(
    "options",
    [{}, {"beam_size": 4, "num_hypotheses": 4, "patience": 2.0}, {"sampling": Sampling(seed=1), "num_hypotheses": 3}],
)
@pytest.mark.parametrize("given", [{}, {"target_prefix": (7, 8)}])
def test_what_is_not_covered_costs_score(options: dict[str, Any], given: dict[str, tuple[int, ...]]) -> None:
    made = [
        make_request(
            number, source=(4 + number % 16, 6, 7, 8, 9, END), max_length=6, coverage_penalty=2.5, **given, **options
        )
        for number in range(32)
    ]
    requests = [dataclasses.replace(it, alignments=True, content=(1, 2, 4)) for it in made]
    finished = run_all(requests, AligningRunner(16))
    shares, reasons = set(), set()
    for request in requests:
        found = finished[request.id].hypotheses
        assert [it.score for it in found] == sorted((it.score for it in found), reverse=True)
        for hypothesis in found:
            # The end is aligned too, and covers nothing.
            share = len({1, 2, 4} - set(hypothesis.alignment[: len(hypothesis.tokens)])) / 3
            stopped = hypothesis.finish_reason is FinishReason.STOP
            total = sum(hypothesis.token_scores) + hypothesis.end_score
            expected = total / ((5 + len(hypothesis.tokens) + stopped) / 6) ** 1.4 - 2.5 * share
            assert math.isclose(hypothesis.score, expected)
            shares.add(share)
            reasons.add(hypothesis.finish_reason)
    assert len(shares) > 2
    assert reasons == {FinishReason.STOP, FinishReason.LENGTH}


def test_a_source_without_content_is_covered() -> None:
    request = dataclasses.replace(make_request(coverage_penalty=2.5), alignments=True)
    without = dataclasses.replace(make_request(), alignments=True)
    found = [run_all([it], AligningRunner(8))[1].hypotheses for it in (request, without)]
    assert found[0] == found[1]


# --- repetition


@pytest.mark.parametrize(
    ("tokens", "source", "runaway"),
    [
        ([9, *[7] * 30], [5, 6], True),
        ([9, *[7] * 30], [5] * 7, False),  # "no no no no no no no"
        ([9, *[7] * 60], [5] * 7, True),
        ([9, *[7, 8] * 13], [5, 6], True),
        ([9, *[7, 8, 9] * 13, 8], [5, 6], False),
        ([*range(10, 22)] * 4, [5, 6], True),
        ([*range(10, 22)] * 3, [5, 6], False),
        ([*range(10, 40)] * 5, [5, 6], False),
        ([7] * 23, [5, 6], False),
        ([], [], False),
    ],
)
def test_what_is_runaway_repetition(tokens: list[int], source: list[int], runaway: bool) -> None:
    assert repetition.is_runaway(tokens, source) is runaway


class StuckRunner(FakeRunner):
    """Repeats three tokens without end, or from the token 9 on ends after some more."""

    def _candidates(
        self, source: tuple[int, ...], fed: tuple[int, ...], adjustments: Sequence[Adjustment]
    ) -> Candidates:
        best = 4 + len(fed) % 3
        if 9 in fed:
            best = END if len(fed) > 40 else 10 + len(fed) % 7 * (len(fed) % 2)
        tokens = [best, *(token for token in (9, 8, 4, 5, 6, 10, END) if token != best)]
        return tokens, [-0.01, *(-5.0 - n for n in range(len(tokens) - 1))]


@pytest.mark.parametrize("stream", [False, True])
def test_greedy_repetition_is_stopped(stream: bool) -> None:
    scheduler, runner = make_scheduler(), StuckRunner(8)
    for number in range(3):
        scheduler.add(
            make_request(number, stream=stream, max_length=200, stop_repetition=True, target_prefix=(11,) * number), 0.0
        )
    events: list[Event] = run_to_end(scheduler, runner)
    for event in events:
        if isinstance(event, Finished):
            (hypothesis,) = event.hypotheses
            assert hypothesis.finish_reason is FinishReason.REPETITION
            assert len(hypothesis.tokens) == event.request_id + 24
            assert hypothesis.end_score == 0.0
    tokens = [token for it in events if isinstance(it, Progress) and it.request_id == 0 for token in it.tokens]
    assert len(tokens) == (24 if stream else 0)


def test_a_beam_prefers_what_does_not_repeat_itself() -> None:
    request = make_request(beam_size=3, num_hypotheses=2, max_length=200, stop_repetition=True)
    best, second, *_ = run_all([request], StuckRunner(8))[1].hypotheses
    assert best.finish_reason is FinishReason.STOP
    assert 9 in best.tokens
    assert len(second.tokens) < 60


def test_repetition_is_found_whoever_the_neighbours_are() -> None:
    alone = run_all([make_request(5, max_length=200, stop_repetition=True)], StuckRunner(8))[5]
    crowd = [make_request(number, max_length=20 + number) for number in range(40)] + [
        make_request(50, max_length=200, stop_repetition=True)
    ]
    crowd = [dataclasses.replace(request, source=(9, 8, END)) for request in crowd]
    assert run_all(crowd, StuckRunner(8))[50].hypotheses == alone.hypotheses
