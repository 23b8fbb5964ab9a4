"""The oracle against the engine's search, which was written independently: same model, every option."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import torch

from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_model.evaluation.reference_decode import greedy_uncached, search_uncached
from dragoman_model.evaluation.torch_runner import TorchRunner
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.tokenizer import SPECIAL_IDS
from dragoman_service.engine.request import DecodingOptions, Finished, FinishReason, Hypothesis, Request, Sampling
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import InvalidInput
from support.tiny_model import half_trained_model, make_model

END_ID = SPECIAL_IDS["end_id"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"beam_size": 2},
    {"beam_size": 4, "num_hypotheses": 4},
    {"beam_size": 5, "length_penalty": 0.0},
    {"beam_size": 3, "length_penalty": 2.0, "num_hypotheses": 2},
    {"beam_size": 3, "min_length": 6},
    {"min_length": 9},
    {"repetition_penalty": 2.5},
    {"beam_size": 3, "repetition_penalty": 3.0, "num_hypotheses": 3},
    {"no_repeat_ngram_size": 1},
    {"beam_size": 4, "no_repeat_ngram_size": 2},
    {"beam_size": 2, "no_repeat_ngram_size": 1, "min_length": 4, "repetition_penalty": 1.5},
]


def make_requests(count: int) -> list[Request]:
    rng = random.Random(1)
    requests = []
    for number, options in zip(range(count), itertools.cycle(OPTIONS), strict=False):
        max_length = rng.choice((10, 12, 14) if "min_length" in options else (3, 8, 14))
        source = (*rng.choices(range(4, 40), k=rng.randint(1, 9)), END_ID)
        prefix = tuple(rng.choices(range(4, 40), k=rng.choice((0, 0, 2))))
        requests.append(Request(number, source, max_length, DecodingOptions(**options), prefix))
    return requests


def run_engine(model: Transformer, requests: list[Request]) -> dict[int, Finished]:
    scheduler = Scheduler(max_rows=11, end_id=END_ID, begin_id=1, max_encode_tokens=20)
    runner = TorchRunner(model, max_rows=11)
    finished: dict[int, Finished] = {}
    for request in requests:
        scheduler.add(request, 0.0)
    while (plan := scheduler.plan()) is not None:
        for event in scheduler.commit(plan, runner.run(plan), 0.0):
            assert isinstance(event, Finished)
            finished[event.request_id] = event
    return finished


def test_oracle_and_crowded_engine_agree() -> None:
    model = half_trained_model()
    requests = make_requests(72)
    finished = run_engine(model, requests)
    seen = set()
    for request in requests:
        expected = search_uncached(model, request.source, request.max_length, request.options, request.target_prefix)
        assert_same(finished[request.id].hypotheses, expected, request)
        seen |= {hypothesis.finish_reason for hypothesis in expected}
    assert seen == set(FinishReason), "the requests must cover both ways to end"


def assert_same(got: tuple[Hypothesis, ...], expected: list[Hypothesis], request: Request) -> None:
    assert [h.tokens for h in got] == [h.tokens for h in expected], request
    assert [h.finish_reason for h in got] == [h.finish_reason for h in expected], request
    for ours, theirs in zip(got, expected, strict=True):
        assert ours.score == pytest.approx(theirs.score, abs=1e-4)
        assert ours.token_scores == pytest.approx(theirs.token_scores, abs=1e-4)


def test_greedy_uncached_is_the_search_without_options() -> None:
    model = half_trained_model()
    source = (7, 8, 9, END_ID)
    ids, scores = greedy_uncached(model, source, 12)
    (hypothesis,) = search_uncached(model, source, 12)
    assert tuple(i for i in ids if i != END_ID) == hypothesis.tokens
    assert scores[: len(hypothesis.tokens)] == pytest.approx(hypothesis.token_scores)
    assert hypothesis.score == pytest.approx(sum(scores) / ((5 + len(ids)) / 6) ** DecodingOptions().length_penalty)


def test_greedy_cached_batch_equals_uncached() -> None:
    model = half_trained_model()
    sources = [request.source for request in make_requests(20)]
    expected = [[i for i in greedy_uncached(model, source, 10)[0] if i != END_ID] for source in sources]
    assert greedy_cached(model, sources, 10) == expected
    assert len({len(ids) for ids in expected}) > 2


def test_beam_search_is_exhaustive_when_the_beam_is_wide_enough() -> None:
    """With few words and few positions, a beam as wide as all hypotheses must find the best there is."""
    model = make_model(seed=3, vocab_size=7)
    source, alpha = (4, 5, 6, END_ID), 0.6
    options = DecodingOptions(beam_size=16, num_hypotheses=16, length_penalty=alpha)
    best = search_uncached(model, source, 2, options, max_positions=2)[0]
    scores: dict[tuple[int, ...], float] = {}
    for tokens in [(), *itertools.product((4, 5, 6), repeat=1), *itertools.product((4, 5, 6), repeat=2)]:
        ended = [*tokens, END_ID] if len(tokens) < 2 else list(tokens)
        logits = model(torch.tensor([source]), torch.tensor([[1, *ended[:-1]]]))[0]
        logits[:, [0, 1, 3]] = float("-inf")
        log_probs = logits.log_softmax(-1)[range(len(ended)), ended]
        scores[tokens] = log_probs.sum().item() / ((5 + len(ended)) / 6) ** alpha
    assert best.tokens == max(scores, key=lambda tokens: scores[tokens])
    assert best.score == pytest.approx(max(scores.values()), abs=1e-5)


def test_constraints_hold() -> None:
    model = make_model(seed=5)
    (free,) = search_uncached(model, (9, END_ID), 12)
    assert len(set(free.tokens)) < len(free.tokens), "without constraints it repeats itself"
    (unique,) = search_uncached(model, (9, END_ID), 12, DecodingOptions(no_repeat_ngram_size=1, min_length=12))
    assert len(set(unique.tokens)) == len(unique.tokens) == 12
    (forced,) = search_uncached(model, (9, END_ID), 12, DecodingOptions(beam_size=3), target_prefix=(30, 31))
    assert forced.tokens[:2] == (30, 31)
    assert forced.token_scores[:2] == (0.0, 0.0)


def test_oracle_does_not_sample() -> None:
    with pytest.raises(InvalidInput, match="sampling"):
        search_uncached(make_model(), (4, END_ID), 5, DecodingOptions(sampling=Sampling()))


def test_the_runner_keeps_no_graph_of_gradients() -> None:
    """Its caches would grow with every step, until the memory is full."""
    model = make_model(seed=1)
    runner = TorchRunner(model, max_rows=2)
    scheduler = Scheduler(max_rows=2, end_id=END_ID, begin_id=1)
    scheduler.add(Request(1, (5, 6, END_ID), 8), 0.0)
    plan = scheduler.plan()
    assert plan is not None
    runner.run(plan)
    assert not any(cache.requires_grad for key_value in (*runner._past, *runner._cross) for cache in key_value)
