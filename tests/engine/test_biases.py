"""What is added to logits: beginnings that are preferred, and how biases go together with penalties and bans."""

from __future__ import annotations

import dataclasses
import math

import pytest

from dragoman_service.engine.biases import BORDER, INSIDE, NO_TEXT, Bias, Preferred, Suppressed
from dragoman_service.engine.plan import Adjustment
from dragoman_service.engine.request import Finished, Request, Sampling
from support.builders import make_request, make_scheduler, run_alone, run_to_end
from support.fake_runner import BEGIN, END, FakeRunner, candidates
from support.one_search import OneSearch

SEARCHES = {
    "greedy": {},
    "beam": {"beam_size": 3, "num_hypotheses": 3},
    "samples": {"sampling": Sampling(top_k=5, seed=3), "num_hypotheses": 3},
    "wide samples": {"sampling": Sampling(top_k=256, seed=1), "num_hypotheses": 3},
}
BEGINNING = ((17,), (4, 5), (9,))


def with_biases(*biases: Bias, request_id: int = 1, **fields: object) -> Request:
    return dataclasses.replace(make_request(request_id, **fields), biases=biases)


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("given", [{}, {"forced": (9, END)}, {"target_prefix": (17,)}])
def test_a_beginning_is_followed_if_it_is_preferred_enough(
    options: dict[str, object], given: dict[str, tuple[int, ...]]
) -> None:
    for number in range(6):
        found = run_alone(with_biases(Preferred(BEGINNING, 60.0), request_id=number, **given, **options)).hypotheses
        assert found[0].tokens[::2][:2] == (17, 9)
        assert found[0].tokens[1] in (4, 5)
        if "beam_size" not in options:
            assert {it.tokens[0] for it in found} == {17}


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
def test_without_a_preference_nothing_changes(options: dict[str, object]) -> None:
    for number in range(6):
        request = with_biases(Preferred(BEGINNING, 0.0), request_id=number, **options)
        assert run_alone(request).hypotheses == run_alone(dataclasses.replace(request, biases=())).hypotheses


@pytest.mark.parametrize("bias", [0.5, 3.0, 8.0])
def test_the_odds_of_a_place_are_multiplied(bias: float) -> None:
    request = with_biases(Preferred(((7, 11),), bias), request_id=2, beam_size=8, num_hypotheses=8)
    tokens, log_probs = candidates(request.source, (BEGIN,))
    before = {token: math.exp(log_prob) for token, log_prob in zip(tokens, log_probs, strict=True)}
    place = before[7] + before[11]
    after = {it.tokens[0]: math.exp(it.token_scores[0]) for it in run_alone(request).hypotheses if it.tokens}
    assert after.keys() & {7, 11}
    for token, probability in after.items():
        odds = place / (1 - place) * math.exp(bias)
        share = before[token] / place * odds if token in (7, 11) else before[token] / (1 - place)
        assert probability == pytest.approx(share / (1 + odds))


def test_who_has_left_the_beginning_is_free() -> None:
    def adjusted(*tokens: int) -> list[Adjustment]:
        search = OneSearch(with_biases(Preferred(BEGINNING, 2.0)))
        for token in tokens:
            search.advance([[token]], [[-1.0]])
        return search.adjustments([6])

    assert adjusted() == [Adjustment(6, 17, bias=2.0)]
    assert adjusted(17) == [Adjustment(6, 4, bias=2.0), Adjustment(6, 5, bias=2.0)]
    assert adjusted(17, 5) == [Adjustment(6, 9, bias=2.0)]
    assert adjusted(17, 5, 9) == adjusted(4) == adjusted(17, 9) == adjusted(17, 9, 9) == []


def test_each_row_of_a_beam_has_its_own() -> None:
    search = OneSearch(with_biases(Preferred(BEGINNING, 2.0), beam_size=2))
    search.advance([[17, 8, 9, 10]] * 2, [[-1.0, -2.0, -3.0, -4.0]] * 2)
    assert search.adjustments([5, 3]) == [Adjustment(5, 4, bias=2.0), Adjustment(5, 5, bias=2.0)]
    search.advance([[4, 5, 8, 9], [17, 18, 19, 10]], [[-1.0, -1.5, -9.0, -9.0], [-9.0, -9.0, -9.0, -9.0]])
    assert search.next_tokens == [4, 5]
    assert search.adjustments([5, 3]) == [Adjustment(5, 9, bias=2.0), Adjustment(3, 9, bias=2.0)]


def test_biases_penalties_and_bans_on_one_token_make_one_adjustment() -> None:
    banned = Suppressed({0: (8, 7)}, {}, bytes(20))
    search = OneSearch(with_biases(Preferred(((7,), (7,), (END,)), 2.0), repetition_penalty=1.5, min_length=9))
    for _ in range(2):
        search.advance([[7]], [[-1.0]])
    assert search.adjustments([0]) == [Adjustment(0, END, bias=-math.inf), Adjustment(0, 7, penalty=1.5)]
    search = OneSearch(with_biases(Preferred(((7,), (7,)), 2.0), banned, repetition_penalty=1.5))
    search.advance([[7]], [[-1.0]])
    assert search.adjustments([0]) == [
        Adjustment(0, 7, penalty=1.5, bias=-math.inf),
        Adjustment(0, 8, bias=-math.inf),
    ]


@pytest.mark.parametrize("given", [{}, {"forced": (9,)}, {"target_prefix": (17,)}])
def test_a_preference_costs_nothing_once_its_places_are_over(given: dict[str, tuple[int, ...]]) -> None:
    """Plans have several steps again, as those of requests without options."""
    scheduler, runner = make_scheduler(max_steps=4), FakeRunner(8)
    request = with_biases(Preferred(BEGINNING, 60.0), max_length=19, request_id=4, **given)
    scheduler.add(request, 0.0)
    last = run_to_end(scheduler, runner)[-1]
    steps = [plan.num_steps for plan in runner.plans]
    assert steps[: steps.index(4)] == [1] * (3 + len(given.get("forced", ())))
    assert isinstance(last, Finished)
    assert last.hypotheses == run_alone(request).hypotheses
    assert not scheduler._batch._constrained


# "New York" in tokens 4 " New", 5 " Ne", 6 "w", 7 " York", 8 "-York", 9 without text, 10 "x", 11 "."; 1 is the border.
ENDS = bytes([*[BORDER] * 4, *[INSIDE] * 5, NO_TEXT, INSIDE, BORDER])
NEW_YORK = Suppressed({0: (12,), 3: (7,)}, {4: ((0, 3),), 5: ((0, 2),), 6: ((2, 3),)}, ENDS)


@pytest.mark.parametrize(
    ("tokens", "banned"),
    [
        ([], {12}),
        ([4], {12, 7}),
        ([5, 6], {12, 7}),
        ([5, 9, 6, 9, 9], {12, 7}),
        ([10, 6], {12}),
        ([5, 10, 6], {12}),
        ([4, 11], {12}),
        ([4, 4], {12, 7}),
        ([9, 9], {12}),
    ],
)
def test_a_word_is_read_token_by_token(tokens: list[int], banned: set[int]) -> None:
    found, bias = NEW_YORK.added(tokens)
    assert (set(found.tolist()), bias) == (banned, -math.inf)
