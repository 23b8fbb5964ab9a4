"""The frontend: order, spacing and counts of translations, streams, and refused input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from dragoman_service.engine.request import (
    DecodingOptions,
    Event,
    Finished,
    FinishReason,
    Normalisation,
    Request,
    Sampling,
)
from dragoman_service.errors import InvalidInput
from dragoman_service.translation.prepare import Sender
from support.fake_workers import END, FIRST, CharacterTokenizer, FakeWorkers, hypothesis_of, served, shout
from support.frontends import call, collect, on_frontend, translate


def test_order_spacing_and_counts() -> None:
    texts = ("One. Two!\n\n  three\t", "", " \n", "four", "***")
    results = translate(served(FakeWorkers()), *texts)
    assert [result.hypotheses[0].text for result in results] == ["ONE. TWO!\n\n  THREE\t", "", " \n", "FOUR", "***"]
    assert [result.sentences for result in results] == [3, 0, 0, 1, 0]
    assert [result.source_tokens for result in results] == [4 + 1 + 4 + 1 + 5 + 1, 0, 0, 5, 0]
    assert all(result.hypotheses[0].finish_reason is FinishReason.STOP for result in results)


def test_hypotheses_join_by_rank_and_scores_add_up() -> None:
    options = DecodingOptions(beam_size=2, num_hypotheses=2)
    (result,) = translate(served(FakeWorkers()), "a\nb", options=options)
    assert [(hypothesis.text, hypothesis.score) for hypothesis in result.hypotheses] == [
        ("A\nB", -2.0),
        ("A!\nB!", -4.0),
    ]
    assert len(result.hypotheses[1].tokens) == len(result.hypotheses[1].token_scores) == 4


def test_timings_are_the_longest_of_each() -> None:
    (result,) = translate(served(FakeWorkers()), "abcdefghi\nb")
    assert (result.timings.queue, result.timings.encode, result.timings.decode) == (0.25, 0.5, 9 / 8)


def test_one_cut_sentence_makes_the_text_cut() -> None:
    results = translate(served(FakeWorkers()), "a\nbcdef\ng", "a", options=DecodingOptions(max_length=3))
    assert [result.hypotheses[0].finish_reason for result in results] == [FinishReason.LENGTH, FinishReason.STOP]


def test_prefix_goes_to_the_first_sentence_of_its_text() -> None:
    model = served(FakeWorkers())
    results = translate(model, " ***\na\nb", "c", target_prefixes=("X", ""))
    assert [result.hypotheses[0].text for result in results] == [" ***\nXA\nB", "C"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_prefix_that_is_preferred_is_not_given(stream: bool) -> None:
    engine = FakeWorkers()
    wanted = call(model := served(engine), "a\nb", target_prefixes=("X y",), target_prefix_bias=2.5)
    if stream:
        *_, result = on_frontend(model, lambda frontend: collect(frontend.stream(wanted)))
    else:
        (result,) = on_frontend(model, lambda frontend: frontend.translate(wanted))
    assert result.hypotheses[0].text == "A\nB"
    first, second = engine.submitted
    assert (first.target_prefix, first.restrictions, second.biases) == ((), (), ())
    (bias,) = first.biases
    tokens = model.tokenizer.encode("X y")
    for length in range(5):
        added, number = bias.added(tokens[:length])
        assert (added.tolist(), number if length < 3 else 2.5) == (tokens[length:][:1], 2.5)


def test_overlong_sentence_is_split_and_nothing_is_lost() -> None:
    engine = FakeWorkers()
    text = "word " * 50 + "x" * 300
    (result,) = translate(served(engine, max_source_tokens=21), text)
    assert result.hypotheses[0].text == text.upper()
    assert all(len(request.source) <= 21 for request in engine.submitted)


@pytest.mark.parametrize(
    ("texts", "fields", "field"),
    [
        ((), {}, "texts"),
        (("a",) * 9, {}, "texts"),
        (("a", "b" * 1_001), {}, "texts[1]"),
        (("a", "b"), {"target_prefixes": ("x",)}, "target_prefixes"),
        (("a", "b"), {"target_prefixes": ("", "x" * 1_001)}, "target_prefixes[1]"),
        (("a", " "), {"target_prefixes": ("x", "x")}, "target_prefixes[1]"),
        (("a", "b"), {"target_prefixes": ("x", "x" * 200)}, "target_prefixes[1]"),
        (("a",), {"options": DecodingOptions(max_length=201)}, "max_length"),
        (("a",), {"options": DecodingOptions(min_length=201)}, "min_length"),
        (("a",), {"options": DecodingOptions(beam_size=16)}, "beam_size"),
        (("a",), {"options": DecodingOptions(num_hypotheses=16, sampling=Sampling())}, "num_hypotheses"),
        (("a",), {"options": DecodingOptions(sampling=Sampling(top_k=13))}, "sampling.top_k"),
        (("a",), {"options": DecodingOptions(beam_size=7)}, "beam_size"),
        (("a",), {"options": DecodingOptions(coverage_penalty=0.1)}, "coverage_penalty"),
        (("a",), {"target_prefix_bias": -0.1}, "target_prefix_bias"),
        (("a",), {"target_prefix_bias": 100.1}, "target_prefix_bias"),
        (("a",), {"target_prefix_bias": float("nan")}, "target_prefix_bias"),
        (("a",), {"suppressed_words": ("a", "")}, "suppressed_words[1]"),
        (("a",), {"suppressed_tokens": ("ab",)}, "suppressed_tokens[0]"),
    ],
)
def test_bad_input_names_the_field_and_reaches_no_engine(
    texts: tuple[str, ...], fields: dict[str, Any], field: str
) -> None:
    engine = FakeWorkers()
    model = served(engine, max_rows=8, max_candidates=12)
    with pytest.raises(InvalidInput) as caught:
        translate(model, *texts, **fields)
    assert caught.value.field == field
    assert engine.submitted == []
    assert model.engine.permits.free == model.engine.permits.capacity


def test_a_sentence_has_the_rows_of_one_lane() -> None:
    model = served(FakeWorkers(), max_rows=8, lanes=2)
    assert translate(model, "a", options=DecodingOptions(beam_size=4))
    with pytest.raises(InvalidInput, match="beam_size: got 5; allowed: 1 to 4"):
        translate(served(FakeWorkers(), max_rows=8, lanes=2), "a", options=DecodingOptions(beam_size=5))


@pytest.mark.parametrize("text", ["One. Two!\n\n three ", "", " \n", "a", "*** a ***"])
@pytest.mark.parametrize("options", [DecodingOptions(), DecodingOptions(beam_size=3, num_hypotheses=3)])
def test_stream_put_together_is_the_result(text: str, options: DecodingOptions) -> None:
    model = served(FakeWorkers())
    *chunks, result = on_frontend(model, lambda f: collect(f.stream(call(model, text, options=options))))
    assert "".join(chunks) == result.hypotheses[0].text == text.upper()
    assert all(chunks)
    assert len(result.hypotheses) == (options.num_hypotheses if text.strip() else 1)


def spellings(texts: Sequence[str]) -> Callable[[Request], list[Event]]:
    """The script of an engine whose hypotheses have these texts, best first."""

    def answer(request: Request) -> list[Event]:
        found = [hypothesis_of(request, text, rank) for rank, text in enumerate(texts)]
        return [Finished(request.id, tuple(found))]

    return answer


@pytest.mark.parametrize(
    ("found", "wanted", "texts"),
    [
        (("A", "A", "B", "C"), 2, ("A", "B")),
        (("A", "B", "A", "B"), 4, ("A", "B")),
        (("A", "A"), 2, ("A",)),
        (("A", "B", "C"), 2, ("A", "B")),
    ],
)
def test_hypotheses_of_a_text_differ(found: tuple[str, ...], wanted: int, texts: tuple[str, ...]) -> None:
    options = DecodingOptions(beam_size=4, num_hypotheses=wanted)
    (result,) = translate(served(FakeWorkers(spellings(found))), "x", options=options)
    assert tuple(it.text for it in result.hypotheses) == texts
    assert [it.score for it in result.hypotheses] == [-1.0 - found.index(text) for text in texts]


def test_capitals_make_hypotheses_equal() -> None:
    options = DecodingOptions(beam_size=2, num_hypotheses=2)
    (result,) = translate(served(FakeWorkers(spellings(("Ja", "ja")))), "THIS IS IT", options=options)
    assert [it.text for it in result.hypotheses] == ["JA"]


def test_a_sentence_of_fewer_hypotheses_repeats_its_last() -> None:
    def answer(request: Request) -> list[Event]:
        return spellings(("A", "A", "A") if len(request.source) == 2 else ("B", "C", "D"))(request)

    options = DecodingOptions(beam_size=3, num_hypotheses=3)
    (result,) = translate(served(FakeWorkers(answer)), "x\nyyy", options=options)
    assert [it.text for it in result.hypotheses] == ["A\nB", "A\nC", "A\nD"]


def test_equal_samples_are_kept() -> None:
    options = DecodingOptions(sampling=Sampling(), num_hypotheses=3)
    (result,) = translate(served(FakeWorkers(spellings(("A", "A", "B")))), "x", options=options)
    assert [it.text for it in result.hypotheses] == ["A", "A", "B"]


@pytest.mark.parametrize("stream", [False, True])
def test_line_breaks_of_the_model_do_not_shift_lines(stream: bool) -> None:
    def script(request: Request) -> list[Event]:
        return shout(replace(request, source=tuple(FIRST + ord(c) for c in "x\n\0\u2028y ")))

    model = served(FakeWorkers(script))
    if stream:
        *chunks, result = on_frontend(model, lambda frontend: collect(frontend.stream(call(model, "a\n\tb"))))
        assert "".join(chunks) == result.hypotheses[0].text
    else:
        (result,) = translate(model, "a\n\tb")
    assert result.hypotheses[0].text == "X   Y\n\tX   Y"


def test_deadline_and_stream_flag_reach_the_engine() -> None:
    engine = FakeWorkers()
    translate(served(engine), "a", sender=Sender(deadline=1e12))
    assert [(request.deadline, request.stream) for request in engine.submitted] == [(1e12, False)]


class _TwoSides(CharacterTokenizer):
    """Tells the model both languages, and has other ids for the target side."""

    def source(self, ids: Sequence[int], source_language: str, target_language: str) -> tuple[int, ...]:
        return (*map(ord, source_language + target_language), *super().source(ids, source_language, target_language))

    def forced(self, target_language: str) -> tuple[int, ...]:
        return tuple(map(ord, target_language))

    def encode_target(self, text: str) -> list[int]:
        return [1000 + i for i in self.encode(text)]


@pytest.mark.parametrize("stream", [False, True])
def test_what_the_model_and_its_tokenizer_want_reaches_the_engine(stream: bool) -> None:
    engine = FakeWorkers(lambda request: [Finished(request.id, (hypothesis_of(request, "x", 0),))])
    model = served(engine, normalisation=Normalisation.POWER, max_target_tokens=2)
    model = replace(model, tokenizer=_TwoSides())
    wanted = call(model, "a", target_prefixes=("X",))
    if stream:
        on_frontend(model, lambda frontend: collect(frontend.stream(wanted)))
    else:
        on_frontend(model, lambda frontend: frontend.translate(wanted))
    (request,) = engine.submitted
    assert request.source == (*b"ende", FIRST + ord("a"), END)
    assert request.forced == tuple(b"de")
    assert request.target_prefix == (1000 + FIRST + ord("X"),)
    assert (request.max_length, request.normalisation) == (2, Normalisation.POWER)


@pytest.mark.parametrize("seed", [None, 0, 5])
def test_without_a_seed_every_sentence_is_drawn_afresh(seed: int | None) -> None:
    engine = FakeWorkers()
    translate(served(engine), "a\na", "a", options=DecodingOptions(sampling=Sampling(seed=seed)))
    seeds = [request.options.sampling.seed for request in engine.submitted if request.options.sampling]
    assert len(seeds) == 3
    if seed is None:
        assert len(set(seeds)) == 3
        assert None not in seeds
    else:
        assert seeds == [seed] * 3
