"""Terms: whatever the model does, the target of each stands in every translation as often as its source was found."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from dragoman_service.engine.request import DecodingOptions, Event, Finished, Progress, Request, Timings
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import ServedModel
from dragoman_service.text.terms import Term
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.settings import RequestLimits
from dragoman_service.translation.warnings import WarningKind
from support.cases import TEXTS, slow_calls
from support.fake_workers import FIRST, FakeWorkers, hypothesis_of, served
from support.frontends import call, collect, on_frontend, translate

from .test_protection import MODELS, STAND_INS, Model, echo, workers

TERMS = (
    Term("bank", "Geldhaus"),
    Term("machine learning", "Masch. Lernen"),
    Term("Apple", "Äppel-Firma", case_sensitive=True),
    Term("漢字", "Schriftzeichen"),
)
KEEP = ("Dragoman", "New York")
WORDS = (
    "alpha",
    "Beta,",
    "5",
    "(delta)",
    "https://bank.example/bank",
    "%s",
    "apple",
    "banks",
    ".",
    "\n",
    "😀",
    "\u00ad",
)
PHRASES = ("bank", "Bank", "machine learning", "Apple", "漢字", "Dragoman", "New York")


def random_text(rng: random.Random) -> str:
    return " ".join(rng.choice([*WORDS, *WORDS, *PHRASES]) for _ in range(rng.randrange(1, 14)))


def wanted_of(text: str) -> Counter[str]:
    """The targets that a translation of one of `random_text` has."""
    without_links = text.replace("https://bank.example/bank", "%s")
    sources = {"(?i:bank)": 0, "(?i:machine learning)": 1, "Apple": 2, "漢字": 3}
    counts = {TERMS[i].target: len(re.findall(rf"(?<!\w){it}(?!\w)", without_links)) for it, i in sources.items()}
    return Counter({target: count for target, count in counts.items() if target and count})


def check(text: str, result: TextResult, model: Model) -> None:
    for hypothesis in result.hypotheses:
        wanted = wanted_of(text)
        for target, count in wanted.items():
            assert hypothesis.text.count(target) == count, (text, hypothesis.text)
        for phrase in KEEP:
            assert hypothesis.text.count(phrase) == text.count(phrase), (text, hypothesis.text)
        applied = hypothesis.terms
        assert Counter(it.term.target for it in applied) == wanted
        for it in applied:
            assert text[slice(*it.source)].lower() == it.term.source.lower()
            assert hypothesis.text[slice(*it.target)] == it.term.target
        targets = sorted(it.target for it in applied)
        assert all(one[1] <= other[0] for one, other in pairwise(targets))
        if model is echo:
            assert hypothesis.text == echoed(text)
    assert WarningKind.TERM_MISSING not in [warning.kind for warning in result.warnings]


def echoed(text: str) -> str:
    parts = re.split(r"(https://\S+)", text)
    for number in range(0, len(parts), 2):
        part = re.sub(r"(?<!\w)(?i:bank)(?!\w)", "Geldhaus", parts[number])
        part = re.sub(r"(?<!\w)(?i:machine learning)(?!\w)", "Masch. Lernen", part)
        parts[number] = re.sub(r"(?<!\w)Apple(?!\w)", "Äppel-Firma", part).replace("漢字", "Schriftzeichen")
    return "".join(parts)


def aligned_workers(model: Model) -> FakeWorkers:
    """As `workers`, but each hypothesis is aligned in order, or at random, now and then outside the sentence."""

    def script(request: Request) -> list[Event]:
        shown = "".join(chr(token - FIRST) for token in request.source[:-1])
        rng = random.Random(shown)
        hypotheses = []
        for rank in range(request.options.num_hypotheses):
            hypothesis = hypothesis_of(request, model(shown, rng), rank)
            places = range(len(hypothesis.tokens) + 1)
            in_order = [min(place, len(shown)) for place in places]
            at_random = [rng.randrange(-1, len(shown) + 2) for _ in places]
            alignment = tuple(at_random if rng.random() < 0.5 and model is not echo else in_order)
            hypotheses.append(replace(hypothesis, alignment=alignment if request.alignments else ()))
        streamed = [Progress(request.id, (token,)) for token in hypotheses[0].tokens] if request.stream else []
        return [*streamed, Finished(request.id, tuple(hypotheses), Timings())]

    return FakeWorkers(script)


def fake_model(model: Model, *, aligned: bool) -> ServedModel:
    engine = aligned_workers(model) if aligned else workers(model)
    return served(engine, stand_ins=STAND_INS, max_source_tokens=300, max_target_tokens=900, alignments=aligned)


def translated(model: Model, texts: Sequence[str], *, aligned: bool = False, **fields: Any) -> list[TextResult]:
    fake = fake_model(model, aligned=aligned)
    wanted = call(fake, *texts, terms=TERMS, keep=KEEP, **fields)
    results: list[TextResult] = on_frontend(fake, lambda frontend: frontend.translate(wanted), RequestLimits())
    return results


@pytest.mark.parametrize("calls", [1, slow_calls(28)])
@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("beam", [1, 3])
@pytest.mark.parametrize("model", MODELS)
def test_the_law_of_terms(model: Model, beam: int, aligned: bool, calls: int) -> None:
    rng = random.Random(f"{model.__name__} {beam}")
    for _ in range(calls):
        texts = [random_text(rng) for _ in range(TEXTS)]
        options = DecodingOptions(beam_size=beam, num_hypotheses=beam)
        for text, result in zip(texts, translated(model, texts, aligned=aligned, options=options), strict=True):
            check(text, result, model)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("model", MODELS)
def test_the_law_of_terms_in_streams(model: Model, aligned: bool) -> None:
    rng = random.Random(f"stream {model.__name__}")
    fake = fake_model(model, aligned=aligned)
    texts = [random_text(rng) for _ in range(30)]

    async def work(frontend: Any) -> list[list[Any]]:
        calls = [call(fake, text, terms=TERMS, keep=KEEP) for text in texts]
        return [await collect(frontend.stream(it)) for it in calls]

    for text, (*chunks, result) in zip(texts, on_frontend(fake, work), strict=True):
        assert "".join(chunks) == result.hypotheses[0].text
        check(text, result, model)


def test_capitals_and_more_terms_than_stand_ins() -> None:
    """A term is written as it is in a sentence of capitals, and in one that is translated in parts."""
    (capitals, many) = translated(echo, ["THE BANK IS A BIG BANK", "Bank and bank of bank at bank or bank"])
    assert capitals.hypotheses[0].text == "THE Geldhaus IS A BIG Geldhaus"
    assert many.hypotheses[0].text == "Geldhaus and Geldhaus of Geldhaus at Geldhaus or Geldhaus"
    assert [warning.kind for warning in many.warnings] == [WarningKind.SPANS_IN_PARTS]
    assert [it.source[0] for it in many.hypotheses[0].terms] == [0, 9, 17, 25, 33]


@pytest.mark.parametrize(
    ("translation", "alignment", "attempts", "text"),
    [
        ("Das Ufer ist gross", [*[0] * 4, *[9] * 4, *[12] * 12], 1, "Das Geldhaus ist gross"),
        ("Gross ist das Ufer", [*[4] * 10, *[9] * 9], 1, "Gross ist das Geldhaus"),  # the longest of its words
        ("Das Geldhaus ist gross", [0] * 23, 1, "Das Geldhaus ist gross"),  # written by the model itself
        ("Das Ufer ist gross", [0] * 19, 5, "The big Geldhaus is big"),  # stand-ins twice, which it loses, then parts
    ],
)
def test_words_that_are_aligned_to_a_term_are_replaced(
    translation: str, alignment: list[int], attempts: int, text: str
) -> None:
    source = "The big bank is big"

    def script(request: Request) -> list[Event]:
        shown = "".join(chr(token - FIRST) for token in request.source[:-1])
        whole = shown in (source, *(source.replace("bank", stand_in) for stand_in in STAND_INS))
        hypothesis = hypothesis_of(request, translation if whole else shown, 0)
        return [Finished(request.id, (replace(hypothesis, alignment=tuple(alignment)),), Timings())]

    engine = FakeWorkers(script)
    (result,) = translate(served(engine, stand_ins=STAND_INS, alignments=True), source, terms=TERMS)
    assert result.hypotheses[0].text == text
    assert (len(engine.submitted), engine.submitted[0].alignments) == (attempts, True)
    tokens = len(source) + 1 if attempts == 1 else 3 * (len(source) + 1) + len("The big") + len("is big") + 2
    assert result.source_tokens == tokens


def test_words_of_the_model_that_are_targets_too_stay() -> None:
    (result,) = translated(lambda shown, rng: f"Geldhaus {shown}", ["The bank is big"])
    assert result.hypotheses[0].text == "Geldhaus The Geldhaus is big"
    assert (result.warnings, len(result.hypotheses[0].terms)) == ((), 1)


def test_a_long_text_of_terms_alone() -> None:
    text = "Bank 5, " * 10_000
    (result,) = translated(echo, [text])
    assert result.hypotheses[0].text == "Geldhaus 5, " * 10_000
    assert len(result.hypotheses[0].terms) == 10_000


@pytest.mark.parametrize(
    ("prefix", "rest", "whole"),
    [
        ("Das Geldhaus", " ist 8352", "Das Geldhaus ist 8352"),
        ("Die Geldhausbank", " ist 4711", "Die Geldhausbank ist Geldhaus"),
        ("Das Geldhaus", " 4711 8352", "Das Geldhaus"),  # the last attempt, of parts: there are none after it
    ],
)
def test_a_prefix_may_have_the_target(prefix: str, rest: str, whole: str) -> None:
    (result,) = translated(lambda shown, rng: rest, ["The big bank"], target_prefixes=(prefix,))
    assert result.hypotheses[0].text == whole


def test_places_of_terms_are_bounded() -> None:
    with pytest.raises(InvalidInput, match="more than 20000 places"):
        translated(echo, ["Bank 5, " * 10_000, "Bank 5, " * 10_001])


def test_sentences_are_where_they_are_with_terms() -> None:
    (result,) = translated(echo, ["A bank. A machine learning bank."], sentences=True)
    (hypothesis,) = result.hypotheses
    assert [hypothesis.text[slice(*it.target)] for it in hypothesis.sentences] == [
        "A Geldhaus.",
        "A Masch. Lernen Geldhaus.",
    ]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"terms": (Term("a", ""),)}, "terms[0].target"),
        ({"keep": ("a", "a")}, "keep[1]"),
        ({"terms": TERMS * 1000}, "terms"),
        ({"keep": ("a",) * 1001}, "keep"),
    ],
)
def test_a_bad_term_is_the_error_of_its_field(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        translate(served(workers(echo)), "One", **fields)
    assert raised.value.field == name
