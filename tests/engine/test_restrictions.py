"""Rows with restrictions, and rows that want many candidates: what they get, and what it costs their neighbours."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pytest

from dragoman_service.engine.active_request import MAX_SHARED_CANDIDATES
from dragoman_service.engine.plan import StepPlan, StepResult, with_wide_rows
from dragoman_service.engine.request import Finished, FinishReason, Request, Sampling
from dragoman_service.engine.restrictions import OnlyTokens, Restriction, allowed_by_all
from dragoman_service.engine.scheduler import Scheduler
from support.builders import make_request, make_scheduler, run_alone, run_to_end
from support.fake_runner import BEGIN, END, VOCAB_SIZE, WORDS, FakeRunner, candidates

WIDE = Sampling(top_k=256, seed=1)
SEARCHES = {
    "greedy": {},
    "beam": {"beam_size": 3, "num_hypotheses": 3},
    "samples": {"sampling": Sampling(top_k=5, seed=3), "num_hypotheses": 3},
    "wide samples": {"sampling": WIDE, "num_hypotheses": 3},
}


@dataclasses.dataclass(frozen=True)
class Next:
    """Allows the given tokens one after the other, and then all."""

    tokens: tuple[int, ...]

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> npt.NDArray[np.bool_] | None:
        given = self.tokens[len(tokens) : len(tokens) + 1]
        return np.isin(np.arange(vocab_size), given) if given else None


def crowd_of(requests: Sequence[Request]) -> tuple[dict[int, Finished], list[StepPlan]]:
    """The final events of requests in a small batch that they join one by one, and the plans of the steps."""
    scheduler, runner = make_scheduler(max_rows=9, max_encode_tokens=1), FakeRunner(9)
    for request in requests:
        scheduler.add(request, 0.0)
    events = run_to_end(scheduler, runner)
    return {event.request_id: event for event in events if isinstance(event, Finished)}, runner.plans


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("given", [{}, {"forced": (9, END)}, {"target_prefix": (4, 18)}])
def test_only_allowed_tokens_are_chosen(options: dict[str, object], given: dict[str, tuple[int, ...]]) -> None:
    allowed = (5, 6, 11, END)
    for number in range(8):
        finished = run_alone(make_request(number, restrictions=(OnlyTokens(allowed),), **given, **options))
        prefix = given.get("target_prefix", ())
        for hypothesis in finished.hypotheses:
            assert hypothesis.tokens[: len(prefix)] == prefix
            assert set(hypothesis.tokens[len(prefix) :]) <= {5, 6, 11}


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("forced", [(), (9, END)])
def test_tokens_that_are_allowed_one_by_one_keep_the_scores_of_the_model(
    options: dict[str, object], forced: tuple[int, ...]
) -> None:
    wanted = (17, 4, 4, 9)
    finished = run_alone(make_request(restrictions=(Next(wanted),), forced=forced, **options))
    assert {it.tokens[:4] for it in finished.hypotheses} == {wanted}
    fed = (BEGIN, *forced, *wanted)
    for place, score in enumerate(finished.hypotheses[0].token_scores[:4]):
        tokens, log_probs = candidates((5, 6, END), fed[: len(forced) + place + 1])
        assert score == log_probs[tokens.index(wanted[place])]


def test_a_hypothesis_with_no_allowed_token_is_cut() -> None:
    for options in SEARCHES.values():
        (best, *_) = run_alone(make_request(restrictions=(Next((7, 8)), NotAfter(2)), **options)).hypotheses
        assert (best.tokens, best.finish_reason) == ((7, 8), FinishReason.LENGTH)


@dataclasses.dataclass(frozen=True)
class NotAfter:
    """Allows nothing after so many tokens."""

    length: int

    def allowed(self, tokens: npt.NDArray[np.int64], vocab_size: int) -> npt.NDArray[np.bool_] | None:
        return np.zeros(vocab_size, np.bool_) if len(tokens) >= self.length else None


def test_tokens_that_all_restrictions_allow_are_allowed() -> None:
    nothing = np.zeros(0, np.int64)
    assert allowed_by_all((), nothing, 4) is None
    assert allowed_by_all((Next(()),), nothing, 4) is None
    assert allowed_by_all((Next((2,)),), nothing, 4).tolist() == [False, False, True, False]
    assert allowed_by_all((OnlyTokens((1, 2)), Next(()), OnlyTokens((2, 3))), nothing, 4).tolist() == [
        False,
        False,
        True,
        False,
    ]


def test_neighbours_change_nothing_and_are_not_changed() -> None:
    rng = random.Random(4)
    requests = []
    for number in range(80):
        restrictions: tuple[Restriction, ...] = ()
        if rng.random() < 0.5:
            restrictions = rng.choice(
                [(OnlyTokens((END, *rng.sample(WORDS, 6))),), (Next(tuple(rng.sample(WORDS, 3))),)]
            )
        options = rng.choice(list(SEARCHES.values()))
        penalty = rng.choice([{}, {"repetition_penalty": 1.3, "min_length": 2}])
        requests.append(make_request(number, restrictions=restrictions, **options, **penalty))
    found, plans = crowd_of(requests)
    assert any(len(plan.wide_rows) and len(plan.masks) for plan in plans)
    for request in requests:
        assert found[request.id].hypotheses == run_alone(request).hypotheses, request


def test_the_rows_that_want_many_candidates_are_searched_apart() -> None:
    most = Sampling(top_k=MAX_SHARED_CANDIDATES, seed=1)
    samplings = (None, WIDE, most)
    _, plans = crowd_of([make_request(number, sampling=it, min_length=5) for number, it in enumerate(samplings)])
    assert [list(plan.wide_rows) for plan in plans[:3]] == [[], [1], [1]]
    assert [plan.num_candidates for plan in plans[:3]] == [1, 1, MAX_SHARED_CANDIDATES]
    assert {plan.num_wide_candidates for plan in plans if len(plan.wide_rows)} == {256}


def test_wide_rows_are_those_of_the_plan_though_their_request_left() -> None:
    scheduler, runner = make_scheduler(), FakeRunner(8)
    for request in (make_request(1, sampling=WIDE), make_request(2, min_length=3)):
        scheduler.add(request, 0.0)
    plan = scheduler.plan()
    assert plan is not None
    scheduler.abort(1, RuntimeError())
    scheduler.commit(plan, runner.run(plan), 0.0)
    (last,) = (event for event in run_to_end(scheduler, runner) if isinstance(event, Finished))
    assert last.hypotheses == run_alone(make_request(2, min_length=3)).hypotheses


def test_wide_rows_get_their_candidates_and_the_others_keep_theirs() -> None:
    plan = StepPlan((), (), (1, 1, 1), (0, 0, 0), (1, 1, 1), 2, wide_rows=[2, 0], num_wide_candidates=3)
    shared = [[0, 0], [7, 8], [0, 0]], [[np.nan, np.nan], [-1.0, -2.0], [np.nan, np.nan]]
    result = StepResult(*shared, wide_ids=[[4, 5, 6], [9, 10, 11]], wide_log_probs=[[-3.0, -4, -5], [-6, -7, -8]])
    ids, log_probs = with_wide_rows(plan, result)
    assert ids.tolist() == [[9, 10, 11], [7, 8, 0], [4, 5, 6]]
    assert log_probs.tolist() == [[-6, -7, -8], [-1, -2, -np.inf], [-3, -4, -5]]


def test_a_minimum_length_costs_nothing_once_it_is_reached() -> None:
    """Plans have several steps again, as those of requests without options."""
    for given in ({}, {"forced": (9,)}, {"target_prefix": (9,)}):
        scheduler, runner = make_scheduler(max_steps=4), FakeRunner(8)
        scheduler.add(make_request(1, min_length=3, max_length=19, **given), 0.0)
        last = run_to_end(scheduler, runner)[-1]
        steps = [plan.num_steps for plan in runner.plans]
        assert steps[: steps.index(4)] == [1] * (3 + len(given.get("forced", ())))
        assert isinstance(last, Finished)
        assert last.hypotheses == run_alone(make_request(1, min_length=3, max_length=19, **given)).hypotheses
        assert scheduler._batch.num_watched == 0
        assert not scheduler._batch._constrained


def test_a_scheduler_without_a_vocabulary_takes_no_restrictions() -> None:
    scheduler = Scheduler(max_rows=1, begin_id=BEGIN, end_id=END)
    for restricted in ({"restrictions": (OnlyTokens((4,)),)}, {"never_empty": True}):
        with pytest.raises(ValueError, match="request 1 may be restricted"):
            scheduler.add(make_request(1, **restricted), 0.0)
    assert OnlyTokens((4,)).allowed(np.zeros(0, np.int64), VOCAB_SIZE).tolist() == [it == 4 for it in range(VOCAB_SIZE)]
