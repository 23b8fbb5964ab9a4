"""Where sentences end. `hard_sentences.tsv` has a language and a text, in which | stands where a sentence ends."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from dragoman_service.text.sentences import sentence_ends
from dragoman_service.text.spans import find_spans

CASES = [line.split("\t") for line in Path(__file__).with_name("hard_sentences.tsv").read_text("utf-8").splitlines()]


def sentences(text: str, language: str) -> list[str]:
    cuts = [0, *sentence_ends(text, 0, len(text), language, find_spans(text)), len(text)]
    return [text[begin:end].strip() for begin, end in pairwise(cuts)]


@pytest.mark.parametrize(("language", "text"), CASES)
def test_hard_cases(language: str, text: str) -> None:
    wanted = [sentence.strip() for sentence in text.split("|")]
    assert sentences(text.replace("|", ""), language) == wanted


@pytest.mark.parametrize("language", ["en", "de", "fr", "xx", "", "en-GB", "de_AT"])
@pytest.mark.parametrize("following", [", so", ": so", "; so", "-so", "so", "… so", ") so", "& Co"])
def test_no_sentence_begins_with(language: str, following: str) -> None:
    assert len(sentences(f"Das ist gut. {following}", language)) == 1
    assert len(sentences(f"Das ist gut.{following}", language)) == 1


def test_a_region_does_not_change_the_language() -> None:
    assert sentences("Die 5. Klasse.", "de_AT") == sentences("Die 5. Klasse.", "DE-at") == ["Die 5. Klasse."]


def test_small_letters_say_nothing_where_there_are_no_capitals() -> None:
    text = "hi. how are you? i am fine, e.g. today. thanks."
    assert sentences(text, "en") == ["hi.", "how are you?", "i am fine, e.g. today.", "thanks."]
    assert sentences("5 ft. 3 in. tall", "en") == ["5 ft. 3 in. tall"]
    assert sentences("Hi. how are you?", "en") == ["Hi. how are you?"]


def test_no_sentence_ends_inside_a_span_that_begins_after_the_mark() -> None:
    text = "It is so.[1](https://a.example) Then it was."
    span = next(span for span in find_spans(text) if text[span.start] == "]")
    assert not any(span.start < cut < span.end for cut in sentence_ends(text, 0, len(text), "en", find_spans(text)))
