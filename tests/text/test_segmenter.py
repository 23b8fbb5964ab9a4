from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.errors import InvalidInput
from dragoman_service.text import segmenter
from dragoman_service.text.segmenter import encode_to_fit, segment

ALPHABET = st.characters(exclude_categories=("Cs",)) | st.sampled_from(
    list(".!?。… \t\n\r\0\u2028\"'()«»-,;:1aÄ漢字\u0301\u200d😀")
)
LANGUAGES = st.sampled_from(["en", "de", "fr", "zh", "ja", "ar", "hi", "my", "th", "xx", "", "en-US", "not a language"])


def translatable(text: str, language: str = "en") -> list[str]:
    return [piece.text for piece in segment(text, language) if piece.translatable]


def characters(text: str) -> list[int]:
    return [ord(character) for character in text]


@settings(max_examples=500, deadline=None)
@given(st.text(ALPHABET), LANGUAGES)
def test_nothing_is_lost(text: str, language: str) -> None:
    pieces = segment(text, language)
    assert "".join(piece.text for piece in pieces) == text
    assert all(piece.text for piece in pieces)


@settings(max_examples=300, deadline=None)
@given(st.text(ALPHABET), LANGUAGES)
def test_sentences_have_no_space_around_them_and_no_control_characters(text: str, language: str) -> None:
    for sentence in translatable(text, language):
        assert sentence == sentence.strip()
        assert any(character.isalnum() for character in sentence)
        assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in sentence)


def test_sentences_and_spacing_of_a_paragraph() -> None:
    text = "  Dr. Smith came at 5 p.m.  He left.\n\n\tNew paragraph!\r\nDone? "
    assert [(piece.text, piece.translatable) for piece in segment(text, "en")] == [
        ("  ", False),
        ("Dr. Smith came at 5 p.m.", True),
        ("  ", False),
        ("He left.", True),
        ("\n\n\t", False),
        ("New paragraph!", True),
        ("\r\n", False),
        ("Done?", True),
        (" ", False),
    ]


@pytest.mark.parametrize("space", ["\u00a0", "\u2003", "\u3000", "\u202f"])
@pytest.mark.parametrize("language", ["en", "fr", "xx"])
def test_spaces_of_several_bytes_are_spaces(space: str, language: str) -> None:
    text = f"A{space}. B{space}! Ça va{space}? Oui."
    pieces = segment(text, language)
    assert "".join(piece.text for piece in pieces) == text
    assert len([piece for piece in pieces if piece.translatable]) >= 2


def test_what_cannot_be_split_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    class PanicException(BaseException):
        pass

    def panic(language: str, text: str) -> list[str]:
        raise PanicException

    monkeypatch.setattr(segmenter.sentencex, "segment", panic)
    assert [piece.text for piece in segment("One. Two.", "en")] == ["One. Two."]


def test_abbreviations_follow_the_language() -> None:
    assert translatable("Das gilt z. B. hier. Gut.", "de") == ["Das gilt z. B. hier.", "Gut."]
    assert translatable("他说。你好！", "zh") == ["他说。", "你好！"]


@pytest.mark.parametrize("text", ["", " ", "\n\n", " \t \u00a0\u3000", "***", "😀 👩‍👩‍👧", "\0\x01\x7f", "---\n..."])
def test_text_without_letters_and_digits_is_not_translated(text: str) -> None:
    assert translatable(text) == []


def test_control_characters_separate() -> None:
    assert translatable("one\0two\x0bthree\u2028four\x85five") == ["one", "two", "three", "four", "five"]


@settings(max_examples=300, deadline=None)
@given(st.text(ALPHABET, min_size=1), st.integers(1, 20))
def test_parts_fit_and_put_together_are_the_sentence(sentence: str, limit: int) -> None:
    parts = list(encode_to_fit(sentence, characters, limit))
    assert "".join(part.text for part in parts) == sentence
    assert all(len(part.tokens) <= limit for part in parts)


def test_short_sentence_stays_whole() -> None:
    (part,) = encode_to_fit("Hello, world", characters, 12)
    assert part.text == "Hello, world"
    assert list(part.tokens) == list(characters("Hello, world"))


def test_split_at_clause_before_words_before_characters() -> None:
    def parts(sentence: str, limit: int) -> list[str]:
        return [part.text for part in encode_to_fit(sentence, characters, limit) if part.tokens]

    assert parts("When it rains a lot, we all stay in.", 20) == ["When it rains a lot,", "we all stay in."]
    assert parts("aaaa bbbb cccc dddd", 10) == ["aaaa bbbb", "cccc dddd"]
    assert parts("abcdefgh", 4) == ["abcd", "efgh"]


def test_forced_split_keeps_accents_with_their_letter() -> None:
    texts = [part.text for part in encode_to_fit("aaae\u0301bbb", characters, 6)]
    assert "".join(texts) == "aaae\u0301bbb"
    assert not any(text.startswith("\u0301") for text in texts)


def test_word_of_100_000_characters() -> None:
    parts = list(encode_to_fit("x" * 100_000, characters, 128))
    assert sum(len(part.tokens) for part in parts) == 100_000
    assert max(len(part.tokens) for part in parts) <= 128


@pytest.mark.timeout(30)  # peeled off one by one, they would take hours, or all of the stack
@pytest.mark.parametrize("unit", ["a\u200d", "\u200da", "a\u0301"[::-1], "a" + "\u0301" * 99])
def test_100_000_characters_that_all_belong_together(unit: str) -> None:
    text = unit * (100_000 // len(unit))
    parts = list(encode_to_fit(text, characters, 128))
    assert "".join(part.text for part in parts) == text
    assert max(len(part.tokens) for part in parts) <= 128
    assert len(parts) < 5_000


def test_character_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(InvalidInput, match="text"):
        list(encode_to_fit("漢", lambda text: [0] * 9 * len(text), 4))


@pytest.mark.parametrize(
    "unit", ["Hello there. ", "It costs 3.50. ", "Mr. Smith left. ", "x" * 300 + ". ", "Yes! No? "]
)
def test_a_long_text_is_split_as_its_parts_are(unit: str) -> None:
    once = segment(unit, "en")
    assert segment(unit * (30_000 // len(unit)), "en") == once * (30_000 // len(unit))


ORDINARY = {
    "en": "Dr. Smith arrived at 5 p.m. on Monday.|Did you see it?|No!|The price is $3.50, i.e. less.|It's so."
    '|“I do not know. Perhaps tomorrow,” she said.|"Stop it. Go away. I mean it!" he cried.|(It was. So?)',
    "de": "Das gilt z. B. hier.|Am 12. Mai 2021 kam er an.|Ist das so?|Dr. Müller wohnt in der Hauptstr. 5."
    "|„Ich weiß es nicht. Vielleicht morgen“, sagte sie.|»Halt. Geh weg.«, rief er.|(Es regnete. Viel.)",
    "zh": "他说。|你好！|“我不知道。也许明天。”她说。|今天天气很好，我们去公园玩。|（下雨了。没人介意。）|真的吗？",
}


@pytest.mark.parametrize("language", ORDINARY)
def test_a_long_text_is_split_as_if_it_were_seen_whole(monkeypatch: pytest.MonkeyPatch, language: str) -> None:
    sentences, space = ORDINARY[language].split("|"), "" if language == "zh" else " "
    rng = random.Random(language)
    texts = [space.join(rng.choices(sentences, k=rng.randint(100, 300))) for _ in range(60)]
    parts = [segment(text, language) for text in texts]
    monkeypatch.setattr(segmenter, "_WINDOW", 1_000_000)
    assert parts == [segment(text, language) for text in texts]


@pytest.mark.parametrize("unit", ["e\u0301", "ก\u0e34", "ー😀\u200d😀"])
@pytest.mark.parametrize("shift", range(5))
def test_a_sentence_without_end_and_spaces_is_not_cut_within_a_character(unit: str, shift: int) -> None:
    sentences = translatable("漢" * shift + unit * 3_000)
    assert len(sentences) > 1
    assert not any(sentence[0] in "\u0301\u0e34\u200d" or sentence[-1] == "\u200d" for sentence in sentences)


@pytest.mark.parametrize(("unit", "end"), [("漢字漢字漢字、漢字漢字", "、"), ("abc\u3000", "c")])
def test_a_sentence_without_end_is_cut_after_a_clause_or_at_a_space(unit: str, end: str) -> None:
    sentences = translatable(unit * 3_000, "zh")
    assert len(sentences) > 1
    assert all(sentence.endswith(end) for sentence in sentences[:-1])


def first_and_rest(text: str) -> list[str]:
    return [text[:1], text[1:]] if len(text) > 1 else [text]


def all_and_last(text: str) -> list[str]:
    return [text[:-1], text[-1:]] if len(text) > 1 else [text]


@pytest.mark.parametrize("split", [lambda text: [text], first_and_rest, all_and_last, list])
@pytest.mark.parametrize("text", ["word " * 10_000, "x" * 50_000, "a. " * 20_000, "漢。" * 30_000])
def test_the_splitter_never_sees_much_at_a_time(
    monkeypatch: pytest.MonkeyPatch, split: Callable[[str], list[str]], text: str
) -> None:
    seen: list[int] = []

    def watched(language: str, part: str) -> list[str]:
        seen.append(len(part))
        return split(part)

    monkeypatch.setattr(segmenter.sentencex, "segment", watched)
    assert "".join(piece.text for piece in segment(text, "en")) == text
    assert max(seen) <= 2_000
    assert sum(seen) <= 2 * len(text) + 2_000
