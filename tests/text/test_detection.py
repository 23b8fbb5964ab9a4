"""Detection of languages, with the model that servers load."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragoman_service.text.detection import SAMPLE_CHARACTERS
from support.detector import detector

GERMAN, ENGLISH = "Der Zug fährt heute nicht mehr.", "The train does not leave today."


def best(text: str, *languages: str) -> str:
    found = detector().detect(text, languages)
    return found[0].language if found else ""


@pytest.mark.parametrize(
    ("text", "languages", "expected"),
    [
        (GERMAN, "en de fr", "de"),
        (ENGLISH, "en de fr", "en"),
        (ENGLISH.upper(), "en de fr", "en"),
        ("Le train ne part plus aujourd'hui.", "en de fr", "fr"),
        ("기차는 오늘 떠나지 않습니다.", "en ko ja", "ko"),
        ("Сегодня поезд не отправится.", "ru uk bg", "ru"),
        # as the caller spells them
        (GERMAN, "eng_Latn deu_Latn", "deu_Latn"),
        (GERMAN, "en-US de_AT", "de_AT"),
        ("Toget går ikke i dag, dessverre.", "nb en de", "nb"),
        ("היום אין רכבת", "en iw", "iw"),
        # the script decides between tags of one language
        ("今天没有火车,请把门关上", "ja zh-Hant zh-Hans", "zh-Hans"),
        ("今天沒有火車,請把門關上", "ja zh-Hans zh-Hant", "zh-Hant"),
        ("今天沒有火車,請把門關上", "ja zh zh-TW", "zh-TW"),
        ("Воз данас не полази, нажалост.", "en sr-Latn sr-Cyrl", "sr-Cyrl"),
        ("Voz danas ne polazi, nažalost.", "en sr-Cyrl sr-Latn", "sr-Latn"),
        # regions do not
        ("O trem não sai hoje, infelizmente.", "pt-PT pt-BR en", "pt-PT"),
        # what tells nothing
        ("", "en de", ""),
        ("123 + 45 = 168 😀", "en de", ""),
        ("https://example.com/the/train/leaves me@example.org", "en de", ""),
        (f"https://example.com/the/train/of/the/day {GERMAN}", "en de", "de"),
        # what is not known is left out
        (GERMAN, "en de tlh", "de"),
        (GERMAN, "tlh", ""),
        (GERMAN, "", ""),
        (GERMAN, "auto English de en", "de"),
    ],
)  # fmt: skip
def test_the_language_of_a_text(text: str, languages: str, expected: str) -> None:
    assert best(text, *languages.split()) == expected


def test_confidences_come_in_order_and_add_up_to_one() -> None:
    found = detector().detect(GERMAN, ["en", "de", "fr", "nl", "ko"])
    confidences = [candidate.confidence for candidate in found]
    assert confidences == sorted(confidences, reverse=True)
    assert sum(confidences) == pytest.approx(1)
    assert {candidate.language for candidate in found} == {"en", "de", "fr", "nl", "ko"}
    assert confidences[0] > 0.99
    assert 0.3 < detector().detect("hotel", ["en", "de"])[0].confidence < 0.9


def test_languages_far_from_a_text_have_confidences_too() -> None:
    found = detector().detect("Ελληνικά", ["ko", "ja"])
    assert sum(candidate.confidence for candidate in found) == pytest.approx(1)


def test_only_the_beginning_of_a_text_is_looked_at() -> None:
    sentence = ENGLISH + " "
    beginning = sentence * (SAMPLE_CHARACTERS // len(sentence) + 1)
    assert detector().detect(beginning + GERMAN * 10_000, ["en", "de"]) == detector().detect(beginning, ["en", "de"])


@given(st.text(st.characters(categories=("L", "M", "N", "P", "Z", "C", "S")), max_size=60))
def test_any_text_has_an_answer(text: str) -> None:
    found = detector().detect(text, ["en", "zh-Hans", "zh-Hant", "sr-Latn", "sr", "ar"])
    assert len(found) in (0, 4)  # tags of one language are one candidate
    assert bool(found) <= any(map(str.isalpha, text))


def test_what_can_be_detected() -> None:
    known = [tag for tag in ("en", "deu", "no", "nb", "nn", "fil", "zh-TW", "ki", "gn", "yue") if detector().knows(tag)]
    assert known == ["en", "deu", "no", "nb", "nn", "fil", "zh-TW", "ki", "gn", "yue"]
    assert not any(map(detector().knows, ("", "auto", "tlh", "zxx", "English")))
    assert len(detector().languages) > 130
    assert all(map(detector().knows, detector().languages))
