"""Beam search against a reference without rows, against exhaustive search, and in its details."""

from __future__ import annotations

import dataclasses
import itertools
import math
import random

import pytest

from dragoman_service.engine.plan import Adjustment
from dragoman_service.engine.request import FinishReason, Hypothesis, Normalisation, Request
from oracle.search.constraints import Constraints
from support.builders import make_request, make_scheduler, run_alone, run_to_end, streamed
from support.fake_runner import BEGIN, END, WORDS, FakeRunner, candidates
from support.naive_beam import NaiveBeamSearch
from support.one_search import OneSearch, make_search


def penalty(length: int, alpha: float, normalisation: Normalisation = Normalisation.GNMT) -> float:
    return ((5 + length) / 6 if normalisation is Normalisation.GNMT else length) ** alpha


def reference_beam_search(request: Request) -> list[tuple[tuple[int, ...], float, FinishReason]]:
    """Textbook beam search: a list of hypotheses without rows or caches, recomputed at every position."""
    options, size, form = request.options, request.options.beam_size, request.normalisation
    constraints = Constraints(request, END)
    returned = 1 if options.num_hypotheses == 1 else size
    given = (BEGIN, *request.forced)
    live: list[tuple[float, tuple[int, ...]]] = [(0.0, request.target_prefix)]
    finished: list[tuple[tuple[int, ...], float, FinishReason]] = []
    while True:
        children = []
        for total, tokens in live:
            adjustments = constraints.adjustments(0, tokens)
            for token, log_prob in zip(*candidates(request.source, (*given, *tokens), adjustments), strict=True):
                if log_prob > -math.inf:
                    children.append((total + log_prob, tokens, token))
        children.sort(key=lambda child: -child[0])
        for total, tokens, token in children[:size]:
            if token == END:
                score = total / penalty(len(tokens) + 1, options.length_penalty, form)
                finished.append((tokens, score, FinishReason.STOP))
        finished.sort(key=lambda hypothesis: -hypothesis[1])
        if len(live[0][1]) == request.max_length:  # this step was made only to see who ends
            ended = {tokens for _, tokens, token in children[:size] if token == END}
            for total, tokens in live:
                if tokens not in ended:
                    score = total / penalty(len(tokens), options.length_penalty, form)
                    finished.append((tokens, score, FinishReason.LENGTH))
            finished.sort(key=lambda hypothesis: -hypothesis[1])
            return finished[:returned]
        live = [(total, (*tokens, token)) for total, tokens, token in children if token != END][:size]
        best_possible = live[0][0] / penalty(request.max_length + 1, options.length_penalty, form)
        wanted = finished[: options.num_hypotheses]
        if len(finished) >= size or (len(wanted) == options.num_hypotheses and best_possible <= wanted[-1][1]):
            return finished[:returned]


@pytest.mark.parametrize("normalisation", Normalisation)
@pytest.mark.parametrize("alpha", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("beam_size", [2, 4, 7])
def test_agrees_with_the_reference(beam_size: int, alpha: float, normalisation: Normalisation) -> None:
    for request_id in range(25):
        request = make_request(
            request_id,
            max_length=3 + request_id % 12,
            target_prefix=(5, 6)[: request_id % 3],
            beam_size=beam_size,
            num_hypotheses=1 + request_id % beam_size,
            length_penalty=alpha,
            min_length=request_id % 4 if request_id % 4 < 3 else 0,
            no_repeat_ngram_size=(0, 2)[request_id % 2],
            repetition_penalty=(1.0, 1.4)[request_id // 2 % 2],
            forced=(9, END)[: request_id // 3 % 3],
            normalisation=normalisation,
        )
        found = run_alone(request).hypotheses
        expected = reference_beam_search(request)
        assert [(h.tokens, h.finish_reason) for h in found] == [(tokens, reason) for tokens, _, reason in expected]
        assert [h.score for h in found] == pytest.approx([score for _, score, _ in expected])


def random_candidates(rng: random.Random, count: int) -> tuple[list[int], list[float]]:
    """Random candidates, sorted as by a runner, with many ties, ends of sentences and bans."""
    token_ids = rng.sample([END, *WORDS], k=min(count, 1 + len(WORDS)))
    coarse = rng.random() < 0.5
    scores = [-rng.randrange(4) / 2 if coarse else -rng.expovariate(1.0) for _ in token_ids]
    scores = [-math.inf if rng.random() < 0.1 else score for score in scores]
    return token_ids, sorted(scores, reverse=True)


@pytest.mark.parametrize("beam_size", [2, 3, 4, 8])
def test_agrees_with_the_naive_search_to_the_last_bit(beam_size: int) -> None:
    rng = random.Random(beam_size)
    for _ in range(300):
        request = make_request(
            max_length=rng.randint(4, 12),
            target_prefix=tuple(rng.choices(WORDS, k=rng.randrange(3))),
            beam_size=beam_size,
            num_hypotheses=rng.randint(1, beam_size),
            length_penalty=rng.choice([0.0, 0.6, 2.0]),
            never_empty=rng.random() < 0.5,
            patience=rng.choice([1.0, 1.5, 2.0]),
            coverage_penalty=rng.choice([0.0, 0.3, 5.0]),
            forced=tuple(rng.choices([*WORDS, END], k=rng.randrange(3))),
            normalisation=rng.choice(list(Normalisation)),
        )
        covering = request.options.coverage_penalty > 0
        content = tuple(range(rng.randint(1, 5))) if covering else ()
        request = dataclasses.replace(request, content=content, alignments=covering)
        search = make_search(request, begin_id=BEGIN, end_id=END)
        naive = NaiveBeamSearch(request, begin_id=BEGIN, end_id=END)
        streamed = 0
        while not naive.done:
            rows = [random_candidates(rng, rng.randint(1, 2 * beam_size)) for _ in range(beam_size)]
            aligned = [rng.randrange(6) for _ in rows]
            for each in (search, naive):
                each.advance([token_ids for token_ids, _ in rows], [log_probs for _, log_probs in rows], aligned)
            assert search.done == naive.done
            if not naive.done:
                assert (search.next_tokens, search.copies) == (naive.next_tokens, naive.copies)
                assert search.decided(streamed) == naive.decided(streamed)
                streamed += len(naive.decided(streamed))
        assert [dataclasses.replace(it, alignment=()) for it in search.hypotheses()] == list(naive.hypotheses())


def test_a_wide_beam_finds_the_best_of_all_translations() -> None:
    """Up to two tokens of 16: a beam of 16 has room for every prefix."""
    for request_id in range(20):
        request = make_request(request_id, max_length=2, beam_size=16, length_penalty=0.6)
        scores = {}
        for length in range(3):
            for tokens in itertools.product(WORDS, repeat=length):
                sequence = (*tokens, END)[:2] if length == 2 else (*tokens, END)
                total = 0.0
                for position, token in enumerate(sequence):
                    token_ids, log_probs = candidates(request.source, (BEGIN, *sequence[:position]))
                    total += log_probs[token_ids.index(token)]
                scores[tokens] = total / penalty(len(sequence), 0.6)
        best = max(scores, key=scores.__getitem__)
        found = run_alone(request).hypotheses[0]
        assert (found.tokens, found.score) == (best, pytest.approx(scores[best]))


def test_hypotheses_are_different_and_come_best_first() -> None:
    for request_id in range(20):
        found = run_alone(make_request(request_id, beam_size=6, num_hypotheses=6)).hypotheses
        assert len(found) == 6
        assert len({hypothesis.tokens for hypothesis in found}) == 6
        scores = [hypothesis.score for hypothesis in found]
        assert scores == sorted(scores, reverse=True)


def test_token_scores_add_up_to_the_score() -> None:
    request = make_request(2, max_length=4, min_length=6, beam_size=4, num_hypotheses=4, length_penalty=0.0)
    for hypothesis in run_alone(request).hypotheses:
        assert hypothesis.finish_reason is FinishReason.LENGTH
        assert sum(hypothesis.token_scores) == pytest.approx(hypothesis.score)


def start(**options: object) -> OneSearch:
    return make_search(make_request(**options), begin_id=BEGIN, end_id=END)


def test_the_first_children_need_no_copies() -> None:
    search = start(beam_size=2)
    search.advance([[7, 8, 9, 10]] * 2, [[-1.0, -2.0, -3.0, -4.0]] * 2)
    assert search.next_tokens == [7, 8]
    assert search.copies == []


def test_the_best_child_stays_and_the_others_are_copied() -> None:
    search = start(beam_size=3)
    search.advance([[7, 8, 9]] * 3, [[-1.0, -1.5, -3.0]] * 3)
    # All three best children are those of row 1.
    search.advance([[4], [10, 11, 12], [5]], [[-9.0], [-0.1, -0.2, -0.3], [-9.0]])
    assert search.next_tokens == [11, 10, 12]
    assert search.copies == [(1, 0), (1, 2)]


def test_ties_go_to_the_lower_row_then_to_the_earlier_candidate() -> None:
    search = start(beam_size=2, num_hypotheses=2, max_length=2)
    search.advance([[7, 8, 9, 10]] * 2, [[-1.0] * 4] * 2)
    assert search.next_tokens == [7, 8]
    search.advance([[12, 11], [5, 4]], [[-1.0, -1.0], [-1.0, -1.0]])
    assert [hypothesis.tokens for hypothesis in search.hypotheses()] == [(7, 12), (7, 11)]


def test_an_end_behind_the_beam_does_not_finish() -> None:
    search = start(beam_size=2, num_hypotheses=2, length_penalty=0.0)
    search.advance([[7, 8, END, 9]] * 2, [[-1.0, -1.1, -1.2, -1.3]] * 2)
    assert search.next_tokens == [7, 8]
    search.advance([[END, 9], [10, 11]], [[-0.1, -5.0], [-0.1, -0.2]])
    search.advance([[END, 9], [END, 11]], [[-0.1, -5.0], [-0.1, -0.2]])
    assert search.done
    assert [hypothesis.tokens for hypothesis in search.hypotheses()] == [(7,), (8, 10)]


def test_goes_on_while_a_live_hypothesis_can_still_win() -> None:
    search = start(beam_size=3, length_penalty=0.0)
    search.advance([[END, 7, 8, 9]] * 3, [[-3.0, -2.1, -3.2, -3.3]] * 3)
    assert not search.done  # finished: -3.0; live: -2.1
    search.advance([[10, 11], [12, 13], [14, 15]], [[-1.0, -9.0], [-0.1, -9.0], [-0.1, -9.0]])
    assert search.done  # live: -3.1
    assert [hypothesis.score for hypothesis in search.hypotheses()] == [-3.0]


def test_goes_on_until_as_many_as_wanted_cannot_be_beaten() -> None:
    search = start(beam_size=3, num_hypotheses=2, length_penalty=0.0)
    search.advance([[END, 7, 8, 9]] * 3, [[-1.0, -2.1, -2.2, -3.3]] * 3)
    assert not search.done  # none that lives can be the best, but one can be the second
    search.advance([[END, 11], [12, 13], [14, 15]], [[-0.1, -9.0], [-0.1, -9.0], [-9.0, -9.0]])
    assert search.done  # finished: -1.0 and -2.2; live: -2.3
    assert [hypothesis.score for hypothesis in search.hypotheses()] == [-1.0, -2.2]


def test_is_over_when_as_many_as_the_beam_have_finished() -> None:
    search = start(beam_size=2, length_penalty=0.0)
    search.advance([[7, END, 8, 9]] * 2, [[-2.0, -3.0, -3.1, -3.2]] * 2)
    assert not search.done
    search.advance([[10, END], [11, 12]], [[-0.1, -0.2], [-0.1, -9.0]])  # finished: -3.0 and -2.2; live: -2.1
    assert search.done
    assert search.hypotheses()[0].score == -2.2


def test_fewer_candidates_than_the_beam_leave_rows_empty() -> None:
    search = start(beam_size=3, num_hypotheses=3, max_length=3)
    search.advance([[7]] * 3, [[-1.0]] * 3)
    search.advance([[8, 9], [99, 99], [99, 99]], [[-1.0, -2.0], [-0.1, -0.2], [-0.1, -0.2]])
    assert search.next_tokens == [8, 9, END]
    search.advance([[10], [11], [99]], [[-1.0], [-1.0], [-0.1]])
    assert [hypothesis.tokens for hypothesis in search.hypotheses()] == [(7, 8, 10), (7, 9, 11)]


@pytest.mark.parametrize("beam_size", [2, 5])
def test_streamed_tokens_are_the_best_hypothesis(beam_size: int) -> None:
    early = 0
    for request_id in range(40):
        scheduler = make_scheduler()
        scheduler.add(make_request(request_id, beam_size=beam_size, stream=True), 0.0)
        events = run_to_end(scheduler, FakeRunner(8))
        best: Hypothesis = events[-1].hypotheses[0]  # type: ignore[union-attr]
        assert streamed(events, request_id) == best.tokens
        early += len(events) > 2
    assert early > 0, "nothing is ever streamed before the end"


def test_streaming_waits_for_a_finished_hypothesis_that_may_win() -> None:
    search = start(beam_size=2, length_penalty=0.0)
    search.advance([[8, END, 7, 9]] * 2, [[-0.5, -1.0, -2.0, -3.0]] * 2)
    search.advance([[10, 11], [10, 11]], [[-0.1, -0.2], [-9.0, -9.0]])
    # Both live ones begin with 8, but the empty translation may win against them.
    assert search.decided(0) == ()


def test_streaming_does_not_look_at_tokens_that_were_sent() -> None:
    search = start(beam_size=2, length_penalty=0.0)
    for token in (7, 8, 9):
        search.advance([[token, 10, 11, 12]] * 2, [[-0.1, -3.0, -4.0, -5.0]] * 2)
    beam = search._active.beam
    assert beam is not None
    beam._paths = [path and (*path[:3], "sent") for path in beam._paths]
    assert search.decided(3) == ()
    assert len(search.decided(2)) <= 1


def test_streaming_ignores_live_hypotheses_that_cannot_win() -> None:
    search = start(beam_size=2, num_hypotheses=2, length_penalty=0.0)
    search.advance([[7, 8, 9, 10]] * 2, [[-0.1, -1.0, -2.0, -3.0]] * 2)
    search.advance([[END, 4, 5, 6], [4, 5, 6, 9]], [[-0.1, -5.0, -6.0, -7.0], [-0.1, -5.0, -6.0, -7.0]])
    # Live are (8, 4) at -1.1 and (7, 4) at -5.1; (7,) has finished at -0.2.
    assert not search.done
    assert search.decided(0) == (7,)


def test_equals_do_not_keep_the_search_going() -> None:
    search = start(beam_size=2, num_hypotheses=2, length_penalty=0.0)
    search.advance([[END, 7, 8, 9]] * 2, [[-1.0, -1.0, -1.0, -3.0]] * 2)
    search.advance([[END, 4], [5, 6]], [[-1.0, -1.0], [-1.0, -9.0]])
    assert search.done
    assert [hypothesis.tokens for hypothesis in search.hypotheses()] == [(), (7,)]


def test_where_only_the_end_is_left_nothing_is_incomplete() -> None:
    search = start(beam_size=2, num_hypotheses=2)
    search.advance([[7, 8, 9, 10]] * 2, [[-1.0, -2.0, -3.0, -4.0]] * 2)
    search.advance([[END], [END]], [[-1.0], [-1.0]])
    assert search.done
    assert {hypothesis.finish_reason for hypothesis in search.hypotheses()} == {FinishReason.STOP}


def test_beam_adjustments_speak_of_rows_of_the_batch() -> None:
    search = start(beam_size=2, min_length=2)
    assert search.adjustments([5, 3]) == [Adjustment(5, END, bias=-math.inf), Adjustment(3, END, bias=-math.inf)]
    search.advance([[7, 8, 9, 10]] * 2, [[-1.0, -2.0, -3.0, -4.0]] * 2)
    assert search.adjustments([5, 3]) == [Adjustment(5, END, bias=-math.inf), Adjustment(3, END, bias=-math.inf)]
