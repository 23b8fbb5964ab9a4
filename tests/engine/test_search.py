"""Greedy search, sampling and constraints, one request at a time and without a scheduler."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from dragoman_service.engine.plan import Adjustment
from dragoman_service.engine.request import Finished, FinishReason, Normalisation, Sampling
from dragoman_service.engine.search import constraints, sampling, scores
from dragoman_service.engine.search.sampling import Draws
from dragoman_service.errors import EngineFailure, InvalidInput
from support.builders import make_request, make_scheduler, run_alone, run_to_end
from support.fake_runner import BEGIN, END, FakeRunner, candidates
from support.one_search import OneSearch, make_search

NAN = math.nan
BANNED = -math.inf


def start(**options: object) -> OneSearch:
    return make_search(make_request(**options), begin_id=BEGIN, end_id=END)


def pick(log_probs: Sequence[float], options: Sampling, uniform: float) -> int:
    settings = sampling.Settings([options])
    return int(sampling.pick(np.array([log_probs]), settings, np.array([uniform]))[0])


# --- greedy


def test_greedy_takes_the_first_candidate_until_the_end() -> None:
    search = start(length_penalty=1.0)
    assert search.next_tokens == [BEGIN]
    search.advance([[7]], [[-1.0]])
    assert search.next_tokens == [7]
    assert not search.done
    search.advance([[END]], [[-0.5]])
    assert search.done
    (hypothesis,) = search.hypotheses()
    assert hypothesis.tokens == (7,)
    assert hypothesis.token_scores == (-1.0,)
    assert hypothesis.score == pytest.approx(-1.5 / (7 / 6))
    assert hypothesis.finish_reason is FinishReason.STOP


def test_greedy_is_cut_at_max_length() -> None:
    search = start(max_length=2, length_penalty=1.0)
    search.advance([[7]], [[-1.0]])
    search.advance([[8]], [[-2.0]])
    assert search.done
    (hypothesis,) = search.hypotheses()
    assert hypothesis.tokens == (7, 8)
    assert hypothesis.score == pytest.approx(-3.0 / (7 / 6))
    assert hypothesis.finish_reason is FinishReason.LENGTH


def test_the_empty_translation_is_possible() -> None:
    search = start(length_penalty=0.0)
    search.advance([[END]], [[-0.25]])
    (hypothesis,) = search.hypotheses()
    assert (hypothesis.tokens, hypothesis.score) == ((), -0.25)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_forced_prefix_stands_whatever_the_candidates_are(beam_size: int) -> None:
    finished = run_alone(make_request(target_prefix=(9, 9, 4), beam_size=beam_size))
    best = finished.hypotheses[0]
    assert best.tokens[:3] == (9, 9, 4)
    assert best.token_scores[:3] == (0.0, 0.0, 0.0)
    assert all(score < 0 for score in best.token_scores[3:])


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"sampling": Sampling(), "num_hypotheses": 2}])
def test_without_an_allowed_candidate_the_translation_is_incomplete(options: dict[str, object]) -> None:
    search = start(length_penalty=0.0, **options)
    rows = len(search.next_tokens)
    search.advance([[7, 8, 9, 10, 11, 12]] * rows, [[-1.0, *[-2.0] * 5]] * rows)
    search.advance([[7]] * rows, [[BANNED]] * rows)
    assert search.done
    assert {hypothesis.finish_reason for hypothesis in search.hypotheses()} == {FinishReason.LENGTH}
    assert {len(hypothesis.tokens) for hypothesis in search.hypotheses()} == {1}


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"sampling": Sampling()}])
def test_nan_is_our_fault_and_said_to_be(options: dict[str, object]) -> None:
    search = start(**options)
    rows = len(search.next_tokens)
    with pytest.raises(EngineFailure, match="NaN"):
        search.advance([[7]] * rows, [[NAN]] * rows)


# --- ids that are fed and not shown

FORCED = (9, END)


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"sampling": Sampling(seed=1), "num_hypotheses": 2}])
@pytest.mark.parametrize("prefix", [(), (7, 8)])
def test_forced_ids_are_fed_after_the_first_and_before_the_prefix(
    options: dict[str, object], prefix: tuple[int, ...]
) -> None:
    search = start(
        forced=FORCED, target_prefix=prefix, length_penalty=1.0, normalisation=Normalisation.POWER, **options
    )
    rows = len(search.next_tokens)
    fed = []
    for _ in (*FORCED, *prefix):
        fed.append(search.next_tokens)
        if "sampling" not in options:  # which sample is the best is known only at the end
            assert search.decided(0) == prefix[: max(0, len(fed) - 1 - len(FORCED))]
        search.advance([[END, 4, 5, 6, 7, 8]] * rows, [[NAN] * 6] * rows)
    fed.append(search.next_tokens)
    assert fed == [[token] * rows for token in (BEGIN, *FORCED, *prefix)]
    search.advance([[11, 12, 13, 14, 15, 16]] * rows, [[-3.0, -60.0, -60.0, -70.0, -70.0, -80.0]] * rows)
    search.advance([[END, 4, 5, 6, 7, 8]] * rows, [[-1.0, -60.0, -60.0, -70.0, -70.0, -80.0]] * rows)
    assert search.done
    best = search.hypotheses()[0]
    assert best.tokens == (*prefix, 11)
    assert best.token_scores == (*(0.0 for _ in prefix), -3.0)
    assert best.score == pytest.approx(-4.0 / (len(prefix) + 2))


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"sampling": Sampling(seed=1), "num_hypotheses": 2}])
def test_forced_ids_do_not_count_and_are_not_seen(options: dict[str, object]) -> None:
    constraints = {"min_length": 1, "max_length": 2, "repetition_penalty": 1.5, "no_repeat_ngram_size": 1}
    search = start(forced=(9, 8), **constraints, **options)
    rows = len(search.next_tokens)
    for _ in range(2):
        assert search.adjustments(range(rows)) == []
        search.advance([[4, 5, 6, 7, 8, 9]] * rows, [[-1.0] * 6] * rows)
    assert {(it.token, it.bias) for it in search.adjustments(range(rows))} == {(END, BANNED)}
    search.advance([[11, 12, 13, 14, 15, 16]] * rows, [[-0.1, -60.0, -60.0, -70.0, -70.0, -80.0]] * rows)
    assert {it.token for it in search.adjustments([0] * rows)} <= {11, 12, 13}
    assert not search.done
    search.advance([[6, 5, 4, 17, 18, 19]] * rows, [[-0.1, -60.0, -60.0, -70.0, -70.0, -80.0]] * rows)
    assert search.done
    assert search.hypotheses()[0].tokens == (11, 6)


@pytest.mark.parametrize("given", [{"forced": (9, 8)}, {"target_prefix": (9, 8)}])
def test_penalties_are_not_computed_anew_once_the_given_ids_are_fed(given: dict[str, tuple[int, ...]]) -> None:
    search = start(repetition_penalty=1.5, **given)
    plain = []
    for token in (4, 5, 6, 7):
        search.adjustments([0])
        plain.append(search._batch._constrained._options().plain)
        search.advance([[token]], [[-1.0]])
    assert plain == [False, False, True, True]
    produced = {6, 7, *given.get("target_prefix", ())}
    assert {it.token for it in search.adjustments([0])} == produced


@pytest.mark.parametrize("options", [{}, {"beam_size": 3}])
def test_a_translation_is_cut_where_the_positions_end(options: dict[str, object]) -> None:
    request = make_request(forced=FORCED, target_prefix=(7,), min_length=9, **options)
    scheduler = make_scheduler(max_positions=5)
    scheduler.add(request, 0.0)
    (finished,) = run_to_end(scheduler, FakeRunner(8))
    assert isinstance(finished, Finished)
    assert len(finished.hypotheses[0].tokens) == 3
    assert finished.hypotheses[0].finish_reason is FinishReason.LENGTH


@pytest.mark.parametrize(("forced", "prefix", "field"), [((9,) * 5, (), "forced"), ((9,) * 3, (7, 8), "target_prefix")])
def test_what_has_no_position_is_refused(forced: tuple[int, ...], prefix: tuple[int, ...], field: str) -> None:
    request = make_request(forced=forced, target_prefix=prefix)
    make_scheduler(max_positions=6).add(request, 0.0)
    with pytest.raises(InvalidInput, match="fewer than the 5 positions") as caught:
        make_scheduler(max_positions=5).add(request, 0.0)
    assert caught.value.field == field


def test_plans_have_several_steps_once_the_given_ids_are_fed() -> None:
    scheduler, runner = make_scheduler(max_steps=4), FakeRunner(8)
    for request in (make_request(1, forced=(9,)), make_request(2, target_prefix=(7, 8)), make_request(3)):
        scheduler.add(request, 0.0)
    finished = {event.request_id: event for event in run_to_end(scheduler, runner)}
    assert [plan.num_steps for plan in runner.plans[:4]] == [1, 1, 4, 4]
    alone = run_alone(make_request(1, forced=(9,)))
    assert finished[1].hypotheses == alone.hypotheses  # type: ignore[union-attr]


# --- scores


@pytest.mark.parametrize(
    ("normalisation", "alpha", "stopped", "cut"),
    [
        (Normalisation.GNMT, 1.0, -3.0 / (8 / 6), -2.0 / (7 / 6)),
        (Normalisation.POWER, 1.0, -1.0, -1.0),
        (Normalisation.POWER, 2.0, -3.0 / 9, -0.5),
        (Normalisation.GNMT, 0.0, -3.0, -2.0),
        (Normalisation.POWER, 0.0, -3.0, -2.0),
    ],
)
def test_the_length_penalty(normalisation: Normalisation, alpha: float, stopped: float, cut: float) -> None:
    request = make_request(length_penalty=alpha, normalisation=normalisation)
    assert scores.stopped(scores.Chosen([7, 8], [-1.0, -1.0]), -1.0, -3.0, request).score == pytest.approx(stopped)
    assert scores.cut(scores.Chosen([7, 8], [-1.0, -1.0]), request).score == pytest.approx(cut)


@pytest.mark.parametrize("normalisation", Normalisation)
@pytest.mark.parametrize("options", [{}, {"beam_size": 3}, {"sampling": Sampling()}])
def test_a_hypothesis_without_tokens_has_a_score(options: dict[str, object], normalisation: Normalisation) -> None:
    search = start(normalisation=normalisation, **options)
    rows = len(search.next_tokens)
    search.advance([[7, 8]] * rows, [[BANNED] * 2] * rows)
    assert search.done
    assert [(it.tokens, it.score) for it in search.hypotheses()] == [((), 0.0)]


# --- sampling


def test_pick_follows_the_distribution() -> None:
    log_probs = [math.log(probability) for probability in (0.5, 0.3, 0.2)]
    counts = Counter(pick(log_probs, Sampling(), step / 1000) for step in range(1000))
    assert counts == {0: 500, 1: 300, 2: 200}


def test_temperature_sharpens_and_flattens() -> None:
    log_probs = [math.log(0.8), math.log(0.2)]

    def share_of_first(temperature: float) -> float:
        picks = [pick(log_probs, Sampling(temperature=temperature), step / 10000) for step in range(10000)]
        return picks.count(0) / len(picks)

    assert share_of_first(0.5) == pytest.approx(0.64 / 0.68, abs=1e-3)
    assert share_of_first(2.0) == pytest.approx(2 / 3, abs=1e-3)
    assert share_of_first(1e-9) == 1.0


def test_top_p_keeps_the_shortest_head_that_reaches_the_mass() -> None:
    log_probs = [math.log(probability) for probability in (0.4, 0.3, 0.2, 0.1)]
    assert {pick(log_probs, Sampling(top_p=0.6), step / 100) for step in range(100)} == {0, 1}
    assert {pick(log_probs, Sampling(top_p=0.1), step / 100) for step in range(100)} == {0}
    assert {pick(log_probs, Sampling(top_p=1.0), step / 100) for step in range(100)} == {0, 1, 2, 3}


def test_top_p_is_reached_by_equality() -> None:
    log_probs = [math.log(probability) for probability in (0.5, 0.5)]
    assert {pick(log_probs, Sampling(top_p=0.5), step / 100) for step in range(100)} == {0}


def test_banned_candidates_are_never_picked() -> None:
    log_probs = [math.log(0.6), math.log(0.4), BANNED]
    assert {pick(log_probs, Sampling(), step / 100) for step in range(100)} == {0, 1}
    assert pick(log_probs, Sampling(), math.nextafter(1.0, 0.0)) == 1


def test_a_seed_decides_the_samples() -> None:
    def tokens(seed: int) -> list[tuple[int, ...]]:
        request = make_request(num_hypotheses=3, sampling=Sampling(seed=seed))
        return [hypothesis.tokens for hypothesis in run_alone(request).hypotheses]

    assert tokens(1) == tokens(1)
    assert tokens(1) != tokens(2)
    assert len(set(tokens(1))) == 3


def test_sentences_with_one_seed_draw_independently() -> None:
    """Otherwise all sentences of a call would draw the same quantile at the same position."""
    first = [Draws(1, (source, END), 0).at(0) for source in range(4, 1004)]
    assert len(set(first)) == 1000
    assert sum(first) / 1000 == pytest.approx(0.5, abs=0.05)


def test_a_sample_does_not_depend_on_how_many_are_asked_for() -> None:
    alone = run_alone(make_request(sampling=Sampling(seed=5))).hypotheses
    among = run_alone(make_request(num_hypotheses=4, sampling=Sampling(seed=5))).hypotheses
    assert alone[0] in among


def test_top_k_of_one_is_greedy() -> None:
    sampled = run_alone(make_request(sampling=Sampling(top_k=1, seed=3)))
    assert sampled.hypotheses == run_alone(make_request()).hypotheses


def test_samples_come_best_first() -> None:
    scores = [h.score for h in run_alone(make_request(num_hypotheses=5, sampling=Sampling())).hypotheses]
    assert scores == sorted(scores, reverse=True)


# --- constraints


def test_min_length_bans_the_end_until_it_is_reached() -> None:
    search = start(min_length=2)
    for token in (7, 8):
        assert search.adjustments([3]) == [Adjustment(3, END, bias=BANNED)]
        search.advance([[token]], [[-1.0]])
    assert search.adjustments([3]) == []


@pytest.mark.parametrize("prefix", [(), (7, 8)])
def test_ngrams_are_looked_for_once_in_a_step(monkeypatch: pytest.MonkeyPatch, prefix: tuple[int, ...]) -> None:
    looks: list[int] = []
    look = constraints.repeated_ngram_ends
    monkeypatch.setattr(constraints, "repeated_ngram_ends", lambda *given: looks.append(given[2]) or look(*given))
    search = start(beam_size=2, no_repeat_ngram_size=3, target_prefix=prefix)
    for step in range(6):
        looks.clear()
        search.adjustments((0, 1))
        assert looks == ([3] if step >= len(prefix) else [])
        search.advance([[9 + step, 8, 7, 6]] * 2, [[-0.1, -1.0, -2.0, -3.0]] * 2)


@pytest.mark.parametrize(
    ("tokens", "size", "banned"),
    [
        ([], 1, set()),
        ([7, 8, 7], 1, {7, 8}),
        ([7, 8, 9, 7], 2, {8}),
        ([7, 8, 7, 9, 7], 2, {8, 9}),
        ([7, 7], 2, {7}),
        ([7, 8, 9, 7, 8], 3, {9}),
        ([7, 8, 9, 8], 3, set()),
        ([7, 8], 4, set()),
    ],
)
def test_ngram_ends_that_would_repeat(tokens: list[int], size: int, banned: set[int]) -> None:
    history = np.array([[99, token] for token in [5, *tokens]])
    column, token = constraints.repeated_ngram_ends(history, np.array([0, len(tokens)]), size)
    assert set(token.tolist()) == banned
    assert set(column.tolist()) <= {1}


def test_a_ban_and_a_penalty_on_one_token_make_one_adjustment() -> None:
    search = start(repetition_penalty=1.5, no_repeat_ngram_size=2)
    for token in (7, 8, 7):
        search.advance([[token]], [[-1.0]])
    assert search.adjustments([0]) == [Adjustment(0, 8, bias=BANNED), Adjustment(0, 7, penalty=1.5)]


def test_a_request_without_constraints_has_no_adjustments() -> None:
    search = start()
    search.advance([[7]], [[-1.0]])
    assert search.adjustments([0]) == []


def test_nothing_is_adjusted_where_the_prefix_decides() -> None:
    search = start(target_prefix=(7, 8), min_length=5)
    assert search.adjustments([4]) == []
    search.advance([[9]], [[-1.0]])
    search.advance([[9]], [[-1.0]])
    assert search.adjustments([4]) == [Adjustment(4, END, bias=BANNED)]


def test_rows_that_have_finished_are_not_adjusted() -> None:
    search = start(num_hypotheses=2, sampling=Sampling(), repetition_penalty=2.0)
    search.advance([[7], [7]], [[-1.0], [-1.0]])
    search.advance([[END], [8]], [[-1.0], [-1.0]])
    assert search.next_tokens == [END, 8]
    assert [adjustment.row for adjustment in search.adjustments([5, 3])] == [3, 3]


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_stands_twice(beam_size: int, size: int) -> None:
    for request_id in range(20):
        request = make_request(request_id, beam_size=beam_size, min_length=12, no_repeat_ngram_size=size)
        for hypothesis in run_alone(request).hypotheses:
            tokens = hypothesis.tokens
            ngrams = [tokens[start : start + size] for start in range(len(tokens) - size + 1)]
            assert len(ngrams) == len(set(ngrams))


def test_the_repetition_penalty_changes_what_is_said_again() -> None:
    request = make_request(3, min_length=15, repetition_penalty=10.0, length_penalty=0.0)
    (hypothesis,) = run_alone(request).hypotheses
    fed: tuple[int, ...] = (BEGIN,)
    total = 0.0
    for position, token in enumerate((*hypothesis.tokens, END)):
        produced = sorted(set(hypothesis.tokens[:position]))
        adjustments = [Adjustment(0, seen, penalty=10.0) for seen in produced]
        adjustments += [Adjustment(0, END, bias=BANNED)] if position < 15 else []
        token_ids, log_probs = candidates(request.source, fed, adjustments)
        assert token_ids[0] == token
        total += log_probs[0]
        fed = (*fed, token)
    assert hypothesis.score == pytest.approx(total)
