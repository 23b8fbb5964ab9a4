from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import Any

import pytest

from dragoman_service.engine.request import DecodingOptions, Event, Finished, Progress, Request, Timings
from dragoman_service.repository.registry import ModelRegistry
from dragoman_service.text.capitals import in_capitals, in_small_letters
from dragoman_service.text.spans import find_spans
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FIRST, FakeWorkers, hypothesis_of, served


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("HELLO WORLD", True),
        ("BITTE 5 TÜREN ÖFFNEN!", True),
        ("NATO", False),
        ("STOP!", False),
        ("I A B", False),
        ("HELLO world", False),
        ("MY iPHONE IS NEW", False),
        ("12345", False),
        ("你好 世界", False),
        ("나는 NASA 직원이다.", False),
        ("我在 IBM 工作", False),
        ("הוא עובד ב-IBM היום", False),
        ("ПРИВЕТ МИР", True),
        ("USB HDMI VGA", False),
        ("USA AND UK", False),
        ("USA, UK", False),
        ("NATO, EU", False),
        ("HTML CSS JSON", False),
        ("STOP IT NOW", True),
        ("PLEASE CONNECT THE USB CABLE", True),
        ("GO ON", True),
        ("ΚΑΛΗΜΕΡΑ ΚΟΣΜΕ", True),
    ],
)
def test_what_is_in_capitals(sentence: str, expected: bool) -> None:
    assert in_capitals(sentence, "en", "de") is expected


@pytest.mark.parametrize(
    ("sentence", "language", "expected"),
    [
        ("NE PAS OUVRIR", "fr", True),
        ("NATO UND EU", "de", False),
        ("DAS IST SO", "de-AT", True),
        ("USB Y HDMI", "es", False),
    ],
)
def test_short_words_are_those_of_the_source(sentence: str, language: str, expected: bool) -> None:
    assert in_capitals(sentence, language, "en") is expected


@pytest.mark.parametrize("languages", [("tr", "en"), ("en", "tr"), ("az-Latn", "en")])
def test_languages_with_another_capital_of_i_are_left_alone(languages: tuple[str, str]) -> None:
    assert not in_capitals("HELLO WORLD", *languages)


def test_small_letters_keep_the_first() -> None:
    assert in_small_letters("PLEASE WAIT, TOM!") == "Please wait, tom!"


def test_small_letters_keep_words_that_nobody_can_speak() -> None:
    assert in_small_letters("READ THE HTML FILE ON DVD") == "Read the HTML file on DVD"


def test_what_is_kept_has_no_part_in_capitals() -> None:
    sentence = "PLEASE READ readme.txt AND README.MD NOW"
    spans = find_spans(sentence)
    assert in_capitals(sentence, "en", "de", spans)
    assert in_small_letters(sentence, spans) == "Please read readme.txt and README.MD now"


def echo(request: Request) -> list[Event]:
    """Translate into the same."""
    hypothesis = hypothesis_of(request, "".join(chr(token - FIRST) for token in request.source[:-1]), 0)
    pieces = [Progress(request.id, (token,)) for token in hypothesis.tokens] if request.stream else []
    return [*pieces, Finished(request.id, (hypothesis,), Timings())]


def answered(text: str, prefix: str = "") -> tuple[list[str], str, str]:
    """What the engine was asked, the translation, and that of a stream."""
    engine = FakeWorkers(echo)
    model = served(engine)
    call = Call(
        (text,),
        ModelRegistry([model]).route("", "", ""),
        DecodingOptions(),
        target_prefixes=(prefix,) if prefix else (),
    )

    async def run() -> tuple[str, str]:
        frontend = Frontend(ModelRegistry([model]), RequestLimits())
        (result,) = await frontend.translate(call)
        async with aclosing(frontend.stream(call)) as pieces:
            parts: list[Any] = [piece async for piece in pieces]
        frontend.close()
        return result.hypotheses[0].text, "".join(part for part in parts if isinstance(part, str))

    whole, streamed = asyncio.run(run())
    engine.close()
    asked = ["".join(chr(token - FIRST) for token in request.source[:-1]) for request in engine.submitted]
    return asked[: len(asked) // 2], whole, streamed


def test_the_model_reads_small_letters_and_the_caller_gets_capitals() -> None:
    text = "PLEASE WAIT. Then go in.\nNATO"
    assert answered(text) == (["Please wait.", "Then go in.", "NATO"], text, text)


def test_what_the_translation_must_begin_with_is_not_changed() -> None:
    asked, whole, _ = answered("PLEASE WAIT. GO ON", prefix="Bitte ")
    assert asked == ["PLEASE WAIT.", "Go on"]
    assert whole == "Bitte PLEASE WAIT. GO ON"
