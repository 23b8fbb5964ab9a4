"""The oracle against the engine's search, which was written independently: same model, every option."""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from dragoman_model.evaluation.greedy import greedy_cached
from dragoman_model.evaluation.reference_decode import NEVER, Added, greedy_uncached, search_uncached
from dragoman_model.evaluation.torch_runner import TorchRunner
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.tokenizer import SPECIAL_IDS
from dragoman_service.engine.biases import Preferred
from dragoman_service.engine.request import (
    DecodingOptions,
    Finished,
    FinishReason,
    Hypothesis,
    Normalisation,
    Request,
    Sampling,
)
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import InvalidInput
from dragoman_service.translation.suppression import unwanted_steps
from dragoman_service.translation.text_worker import run_inline
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


def make_requests(count: int, end_id: int = END_ID) -> list[Request]:
    rng = random.Random(1)
    requests = []
    for number, options in zip(range(count), itertools.cycle(OPTIONS), strict=False):
        max_length = rng.choice((10, 12, 14) if "min_length" in options else (3, 8, 14))
        source = (*rng.choices(range(4, 39), k=rng.randint(1, 9)), end_id)
        prefix = tuple(rng.choices(range(4, 39), k=rng.choice((0, 0, 2))))
        request = Request(
            number,
            source,
            max_length,
            DecodingOptions(**options),
            prefix,
            forced=tuple(rng.choices(range(39), k=rng.choice((0, 1, 3)))),
            normalisation=rng.choice(list(Normalisation)),
        )
        requests.append(request)
    return requests


def run_engine(model: Transformer, requests: list[Request], max_positions: int | None = None) -> dict[int, Finished]:
    config = model.config
    scheduler = Scheduler(
        max_rows=11,
        end_id=config.end_id,
        begin_id=config.begin_id,
        max_encode_tokens=20,
        max_positions=max_positions or config.max_positions,
    )
    runner = TorchRunner(model, max_rows=11)
    finished: dict[int, Finished] = {}
    for request in requests:
        scheduler.add(request, 0.0)
    while (plan := scheduler.plan()) is not None:
        for event in scheduler.commit(plan, runner.run(plan), 0.0):
            assert isinstance(event, Finished)
            finished[event.request_id] = event
    return finished


def search(
    model: Transformer, request: Request, max_positions: int | None = None, added: Added = lambda tokens: {}
) -> list[Hypothesis]:
    return search_uncached(
        model,
        request.source,
        request.max_length,
        request.options,
        request.target_prefix,
        max_positions,
        request.forced,
        request.normalisation,
        added=added,
    )


def test_oracle_and_crowded_engine_agree() -> None:
    model = half_trained_model()
    requests = make_requests(108)
    finished = run_engine(model, requests)
    seen = set()
    for request in requests:
        expected = search(model, request)
        assert_same(finished[request.id].hypotheses[: request.options.num_hypotheses], expected, request)
        seen |= {hypothesis.finish_reason for hypothesis in expected}
    assert seen == {FinishReason.STOP, FinishReason.LENGTH}, "the requests must cover both ways to end"


TEXTS = ["", "", "", "", *[" b", " ba", " bab", "a", "ab", "aba", "b", "ba", "bb", "aa", "."] * 4][:40]
"""Of the model's words: few, so that most are spelled in several ways."""


class ToyTokenizer:
    """Writes them."""

    end_id, unknown_id, vocab_size = END_ID, 3, len(TEXTS)

    def texts(self) -> list[bytes]:
        return [text.encode() for text in TEXTS]

    def pieces(self, ids: Sequence[int]) -> list[str]:
        return [str(i) for i in ids]

    def encode_target(self, text: str) -> list[int]:
        self._text = text
        return []

    def decode(self, ids: Sequence[int]) -> str:
        return self._text


def test_they_agree_on_suppressed_words_and_preferred_beginnings() -> None:
    model, rng = half_trained_model(), random.Random(3)
    requests, expected = [], {}
    for request in make_requests(72):
        words = tuple(rng.sample(["ba", "bab", "ab", "baba", "b", "a.b", "aba"], k=rng.randrange(4)))
        beginning = tuple(rng.sample(range(4, 39), k=rng.randint(1, 3)))
        bias = rng.choice([2.0, 6.0])

        def added(
            tokens: Sequence[int],
            words: Sequence[str] = words,
            beginning: Sequence[int] = beginning,
            bias: float = bias,
        ) -> dict[int, float]:
            found = {}
            if list(tokens) == list(beginning[: len(tokens)]) and len(tokens) < len(beginning):
                found[beginning[len(tokens)]] = bias
            text = "".join(TEXTS[token] for token in tokens)
            for token, more in enumerate(TEXTS):
                if any(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text + more) for word in words):
                    found[token] = NEVER
            return found

        unwanted = run_inline(unwanted_steps(words, (), ToyTokenizer()))  # type: ignore[arg-type]
        biases = (unwanted.bias, Preferred(tuple((token,) for token in beginning), bias))
        requests.append(dataclasses.replace(request, target_prefix=(), biases=biases))
        expected[request.id] = search(model, requests[-1], added=added)
    finished = run_engine(model, requests)
    for request in requests:
        got = finished[request.id].hypotheses[: request.options.num_hypotheses]
        assert_same(got, expected[request.id], request)
    free = run_engine(model, [dataclasses.replace(request, biases=()) for request in requests])
    assert sum(free[it.id].hypotheses[0].tokens != finished[it.id].hypotheses[0].tokens for it in requests) > 30


@pytest.mark.parametrize("max_positions", [6, 9])
def test_they_agree_where_positions_run_out(max_positions: int) -> None:
    model = half_trained_model()
    requests = make_requests(72)
    finished = run_engine(model, requests, max_positions)
    for request in requests:
        assert_same(
            finished[request.id].hypotheses[: request.options.num_hypotheses],
            search(model, request, max_positions),
            request,
        )
        fed = [len(request.forced) + len(h.tokens) for h in finished[request.id].hypotheses]
        assert max(fed) <= max_positions


@pytest.mark.parametrize(
    "ids",
    [
        {"begin_id": 2, "banned_ids": (0, 3)},
        {"begin_id": 39, "pad_id": 39, "end_id": 0, "unknown_id": 1, "banned_ids": (1, 39)},
    ],
    ids=["begin is end", "begin is padding"],
)
def test_they_agree_with_any_special_ids(ids: dict[str, Any]) -> None:
    model = make_model(seed=4, norm="pre", positions="learned", **ids)
    config = model.config
    requests = make_requests(48, config.end_id)
    finished = run_engine(model, requests)
    chosen = set()
    for request in requests:
        expected = search(model, request)
        assert_same(finished[request.id].hypotheses[: request.options.num_hypotheses], expected, request)
        chosen |= {i for h in expected for i in h.tokens[len(request.target_prefix) :]}
    assert not chosen & {*config.banned_ids, config.end_id}
    assert len(chosen) > 5
    sources, forced = [request.source for request in requests], [(5, config.end_id)] * len(requests)
    uncached = [greedy_uncached(model, source, 10, (5, config.end_id))[0] for source in sources]
    assert greedy_cached(model, sources, 10, forced) == [[i for i in ids if i != config.end_id] for ids in uncached]


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
    alpha = DecodingOptions().length_penalty
    assert hypothesis.score == pytest.approx(sum(scores) / ((5 + len(ids)) / 6) ** alpha)
    (hypothesis,) = search_uncached(model, source, 12, normalisation=Normalisation.POWER)
    assert hypothesis.score == pytest.approx(sum(scores) / len(ids) ** alpha)


def test_forced_ids_are_fed_and_no_part_of_the_translation() -> None:
    model = half_trained_model()
    source, forced = (7, 8, 9, END_ID), (30, 7)
    ids, scores = greedy_uncached(model, source, 12, forced)
    (hypothesis,) = search_uncached(model, source, 12, forced=forced)
    assert tuple(i for i in ids if i != END_ID) == hypothesis.tokens
    assert scores[: len(hypothesis.tokens)] == pytest.approx(hypothesis.token_scores)
    (shown,) = search_uncached(model, source, 14, target_prefix=forced)
    assert shown.tokens == (*forced, *hypothesis.tokens), "the decoder is fed the same"
    assert shown.score < 0 > hypothesis.score != shown.score, "the prefix counts in the length"


@pytest.mark.parametrize("num_forced", [0, 1, 3])
def test_greedy_cached_batch_equals_uncached(num_forced: int) -> None:
    model = half_trained_model()
    sources = [request.source for request in make_requests(20)]
    forced = [tuple(range(4 + index, 4 + index + num_forced)) for index in range(len(sources))]
    uncached = [greedy_uncached(model, source, 10, ids)[0] for source, ids in zip(sources, forced, strict=True)]
    expected = [[i for i in ids if i != END_ID] for ids in uncached]
    assert greedy_cached(model, sources, 10, forced) == expected
    assert num_forced or greedy_cached(model, sources, 10) == expected
    assert len({len(ids) for ids in expected}) > 1


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
