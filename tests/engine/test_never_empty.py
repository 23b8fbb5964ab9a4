"""Translations that are never empty: the end of the sentence does not come first, and no score changes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import Failed, Finished, FinishReason, Request, Sampling
from support.builders import make_request, make_scheduler, run_alone, run_to_end, streamed
from support.fake_runner import BEGIN, END, FakeRunner, candidates

SEARCHES = {
    "greedy": {},
    "beam": {"beam_size": 3, "num_hypotheses": 3},
    "samples": {"sampling": Sampling(top_k=5, seed=3), "num_hypotheses": 3},
}
NUMBER = 200


def empty_ones(options: dict[str, object], **given: tuple[int, ...]) -> list[Request]:
    """Requests of which a hypothesis is empty, unless that is forbidden."""
    requests = [make_request(number, max_length=6, **options, **given) for number in range(NUMBER)]
    return [it for it in requests if not all(found.tokens for found in run_alone(it).hypotheses)]


def forbidding(request: Request) -> Request:
    return dataclasses.replace(request, options=dataclasses.replace(request.options, never_empty=True))


@pytest.mark.parametrize("options", SEARCHES.values(), ids=SEARCHES)
@pytest.mark.parametrize("forced", [(), (9, END)])
def test_no_hypothesis_is_empty(options: dict[str, object], forced: tuple[int, ...]) -> None:
    some = empty_ones(options, forced=forced)
    assert len(some) > 3
    for request in some:
        for found in run_alone(forbidding(request)).hypotheses:
            assert found.tokens
            fed = (BEGIN, *forced)
            ids, log_probs = candidates(request.source, fed)
            assert found.token_scores[0] == log_probs[ids.index(found.tokens[0])]  # not of a changed distribution


def test_what_is_not_empty_stays_to_the_last_bit() -> None:
    for number in range(NUMBER):
        request = make_request(number, max_length=6)
        free = run_alone(request).hypotheses
        if free[0].tokens:
            assert run_alone(forbidding(request)).hypotheses == free


def test_the_first_choice_is_the_likeliest_word() -> None:
    for request in empty_ones({}):
        ids, _ = candidates(request.source, (BEGIN,))
        assert ids[0] == END
        assert run_alone(forbidding(request)).hypotheses[0].tokens[0] == ids[1]


def test_a_prefix_is_not_nothing() -> None:
    """After a prefix, the sentence may end at once."""
    requests = [make_request(number, max_length=6, target_prefix=(5,)) for number in range(NUMBER)]
    short = [it for it in requests if run_alone(it).hypotheses[0].tokens == (5,)]
    assert short
    for request in short:
        assert run_alone(forbidding(request)).hypotheses == run_alone(request).hypotheses


def test_neighbours_and_streams_see_nothing_of_it() -> None:
    requests = [
        dataclasses.replace(forbidding(make_request(number, **options)), stream=number % 2 == 0)
        for number, options in enumerate(list(SEARCHES.values()) * 40)
    ]
    scheduler = make_scheduler(max_rows=9)
    for request in requests:
        scheduler.add(request, 0.0)
    events = run_to_end(scheduler, FakeRunner(9))
    finished = {event.request_id: event.hypotheses for event in events if isinstance(event, Finished)}
    assert finished == {request.id: run_alone(request).hypotheses for request in requests}
    for request in requests:
        if request.stream:
            assert streamed(events, request.id) == finished[request.id][0].tokens


class EndOrNothing(FakeRunner):
    """Of the first row all log-probabilities are NaN; the others end at once."""

    def run(self, plan: StepPlan) -> StepResult:
        result = super().run(plan)
        token_ids, log_probs = np.array(result.token_ids), np.array(result.log_probs)
        log_probs[0] = math.nan
        token_ids[1:, 0] = END
        return dataclasses.replace(result, token_ids=token_ids, log_probs=log_probs)


def test_a_request_that_fails_in_one_row_and_ends_in_another_fails() -> None:
    scheduler = make_scheduler(max_rows=9)
    sampling = Sampling(top_k=1, seed=3)
    scheduler.add(forbidding(make_request(1, sampling=sampling, num_hypotheses=3)), 0.0)
    (event,) = run_to_end(scheduler, EndOrNothing(9))
    assert isinstance(event, Failed)


def test_a_model_that_only_ends_gives_what_is_left() -> None:
    """The end is its only candidate: the hypothesis is cut rather than tried again for ever."""

    class OnlyEnd(FakeRunner):
        def run(self, plan: StepPlan) -> StepResult:
            result = super().run(plan)
            token_ids, log_probs = np.array(result.token_ids), np.array(result.log_probs)
            log_probs[token_ids != END] = -math.inf
            order = np.argsort(-log_probs, axis=1, kind="stable")
            return dataclasses.replace(
                result,
                token_ids=np.take_along_axis(token_ids, order, 1),
                log_probs=np.take_along_axis(log_probs, order, 1),
            )

    for options in ({}, {"beam_size": 3}):
        scheduler = make_scheduler(max_rows=9)
        scheduler.add(forbidding(make_request(1, **options)), 0.0)
        (event,) = run_to_end(scheduler, OnlyEnd(9))
        assert isinstance(event, Finished)
        assert (event.hypotheses[0].tokens, event.hypotheses[0].finish_reason) == ((), FinishReason.LENGTH)
