"""Target prefixes that have kept spans of the sentence: exact to the character, and each span once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

import pytest

from dragoman_service.engine.request import DecodingOptions
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.continuation import Continuation, continuation
from dragoman_service.translation.frontend import Frontend
from dragoman_service.translation.prefix import completed
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FIRST, CharacterTokenizer, served
from support.frontends import call, collect, on_frontend, translate

from .test_protection import (
    MODELS,
    STAND_INS,
    WITH_EMOJI,
    Model,
    broken,
    echo,
    random_prefix,
    random_text,
    spanned,
    spans_inside,
    spans_of,
    workers,
)

__all__ = ["spanned"]  # a fixture


@pytest.mark.parametrize(
    ("prefix", "text", "tail", "between", "parts"),
    [
        ("Siehe %s und", "See %s and more", "und", "", ["and more"]),
        ("Siehe %s ", "See %s and more", "", "", ["and more"]),
        ("Siehe %s", "See %s and more", "", "", [" ", "and more"]),
        ("Sie", "See %s and more", "Sie", "", ["See", " ", "%s", " ", "and more"]),
        ("Du", "%s of you", "", " ", ["%s", " ", "of you"]),
        ("Du ", "%s of you", "", "", ["%s", " ", "of you"]),
        ("vor{count}", "pre{count}post", "", "", ["post"]),
        ("Nimm {count}", "Take %s or {count} now", "", " %s", [" ", "now"]),
        ("Nimm {count} ", "Take %s or {count} now", "", "%s", [" ", "now"]),
        ("Nimm %s", "Take %s, {count}.", "", ", ", ["{count}", "."]),
        ("Nimm %s,", "Take %s, {count}.", "", " ", ["{count}", "."]),
        ("Nimm %s und", "Take %s, {count}.", "", " ", ["{count}", "."]),
        ("Nimm %s und {count}", "Take %s, {count}.", "", ".", []),
        ("Nimm %s und {count}.", "Take %s, {count}.", "", "", []),
        ("%s, %s", "%s or %s or %s", "", "", [" ", "or", " ", "%s"]),
        ("", "See %s", "", "", ["See", " ", "%s"]),
    ],
)
def test_how_a_sentence_in_parts_goes_on_after_a_prefix(
    prefix: str, text: str, tail: str, between: str, parts: Sequence[str]
) -> None:
    found = continuation(prefix, text, spans_of(text))
    assert found == Continuation(found.done, tail, between, found.parts)
    assert [part.text for part in found.parts] == parts
    assert text[found.done :] == "".join(parts)


@pytest.mark.parametrize(
    ("prefix", "whole"),
    [
        ("Siehe https://a.exa", "Siehe https://a.example/B_c?d=1"),
        ("Siehe http", "Siehe http"),  # may be another word
        ("Siehe 10", "Siehe 10"),
        ("Siehe 10 ", "Siehe 10 €"),
        ("Siehe x{co", "Siehe x{count}"),
        ("Siehe xa.b@", "Siehe xa.b@"),
        ("{count} {co", "{count} {co"),
    ],
)
def test_a_prefix_that_ends_inside_a_span_is_completed(prefix: str, whole: str) -> None:
    assert completed(prefix, ["https://a.example/B_c?d=1", "10 €", "{count}", "a.b@c.example"]) == whole


@pytest.mark.parametrize(
    ("prefix", "whole"),
    [
        ("• Ei", "• EiNE %s TWO"),  # what is copied before the sentence is not written twice
        ("•", "• ONE %s TWO"),
        ("Ei", "• EiNE %s TWO"),
        ("• Eins %s un", "• Eins %s unWO"),
    ],
)
def test_a_prefix_may_have_what_is_copied_before_the_sentence(prefix: str, whole: str) -> None:
    def continued(shown: str, rng: random.Random) -> str:
        return "WO" if "%s" in prefix else "NE 4711 TWO" if "Ei" in prefix else "ONE 4711 TWO"

    (result,) = translate(served(workers(continued), stand_ins=STAND_INS), "• One %s two", target_prefixes=(prefix,))
    assert result.hypotheses[0].text == whole


def test_the_first_sentence_that_is_translated_has_the_prefix_and_keeps_its_case() -> None:
    """The one before is of another script, and copied."""

    class KnowsNoHan(CharacterTokenizer):
        fallback_ids = frozenset(FIRST + ord(character) for character in "漢字")

    def lower(shown: str, rng: random.Random) -> str:
        return shown.lower()

    model = replace(served(workers(lower), stand_ins=STAND_INS), tokenizer=KnowsNoHan())
    (result,) = translate(model, "漢字漢字。 ALL OF US ARE HERE.", target_prefixes=("Wir",))
    assert result.hypotheses[0].text == "漢字漢字。 Wirall of us are here."


def test_the_model_reads_what_a_prefix_has_after_its_last_span() -> None:
    """In the attempts before it reads stand-ins there, of which it writes one again."""
    engine = workers(lambda shown, rng: " 4711 8352" if "more" in shown and shown[0] == "S" else " mehr")
    (result,) = translate(served(engine, stand_ins=STAND_INS), "See %s and more", target_prefixes=("Siehe %s und",))
    given = ["".join(chr(token - FIRST) for token in request.target_prefix) for request in engine.submitted]
    assert result.hypotheses[0].text == "Siehe %s und mehr"
    assert given == ["Siehe 4711 und", "Siehe 8352 und", "und"]


def test_a_part_without_room_behind_its_prefix_is_not_translated() -> None:
    engine = workers(lambda shown, rng: " 4711")
    prefix, options = "Siehe %s und noch viel mehr", DecodingOptions(max_added_length=0)
    (result,) = translate(
        served(engine, stand_ins=("4711",)),
        "See as much as possible of %s or more",
        target_prefixes=(prefix,),
        options=options,
    )
    assert (result.hypotheses[0].text, len(engine.submitted)) == (prefix, 1)


@pytest.mark.parametrize(
    ("translation", "text", "requests"),
    [
        ("Hier ist 4711.", "Hier ist %s.", 1),  # it has not followed the prefix
        ("Siehe\t4711 hier.", "Siehe\t%s hier.", 1),
        ("Siehe 4711 4711", "PART %s PART", 4),
    ],
)
def test_a_preferred_prefix_may_have_spans(translation: str, text: str, requests: int) -> None:
    def continued(shown: str, rng: random.Random) -> str:
        return translation.replace("4711", shown[4:8]) if len(shown) > 4 else "PART"

    engine = workers(continued)
    model = served(engine, stand_ins=STAND_INS)
    (result,) = translate(model, "See %s here", target_prefixes=("Siehe\t%s",), target_prefix_bias=5.0)
    assert (result.hypotheses[0].text, len(engine.submitted)) == (text, requests)


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("model", MODELS)
def test_spans_stand_in_translations_with_preferred_prefixes(model: Model) -> None:
    rng = random.Random(f"preferred {model.__name__}")
    fake = replace(served(workers(model), stand_ins=STAND_INS, max_source_tokens=300, max_target_tokens=900))
    fake = replace(fake, tokenizer=WITH_EMOJI)
    texts = [f"Say {random_text(rng)}" for _ in range(100)]
    prefixes = [random_prefix(text, rng) for text in texts]
    wanted = call(fake, *texts, target_prefixes=tuple(prefixes), target_prefix_bias=1.0)
    results = on_frontend(fake, lambda frontend: frontend.translate(wanted), RequestLimits())
    for text, prefix, result in zip(texts, prefixes, results, strict=True):
        written = result.hypotheses[0].text
        assert broken(text, written, {span: prefix.count(span) for span in spans_inside(text)}) == {}
        assert model is not echo or written == text


@pytest.mark.usefixtures("spanned")
@pytest.mark.parametrize("model", MODELS)
def test_the_law_of_prefixes_in_streams(model: Model) -> None:
    rng = random.Random(f"prefixes of streams {model.__name__}")
    fake = served(workers(model), stand_ins=STAND_INS, max_source_tokens=300, max_target_tokens=900)
    fake = replace(fake, tokenizer=WITH_EMOJI)
    texts = [f"Say {random_text(rng)}" for _ in range(60)]
    prefixes = [random_prefix(text, rng) for text in texts]

    async def work(frontend: Frontend) -> list[list[str | TextResult]]:
        calls = [call(fake, text, target_prefixes=(prefix,)) for text, prefix in zip(texts, prefixes, strict=True)]
        return [await collect(frontend.stream(it)) for it in calls]

    for text, prefix, (*chunks, result) in zip(texts, prefixes, on_frontend(fake, work), strict=True):
        written = "".join(chunks)
        assert written == result.hypotheses[0].text
        assert written.startswith(prefix)
        assert broken(text, written, {span: prefix.count(span) for span in spans_inside(text)}) == {}
