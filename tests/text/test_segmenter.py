from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.errors import InvalidInput
from dragoman_service.text.characters import is_border
from dragoman_service.text.lines import joined_lines
from dragoman_service.text.segmenter import Piece, Splitting, encode_to_fit, pieces_of, segment
from dragoman_service.text.spans import Kind, find_spans
from support.texts import ATTACKS, TEXTS, random_text

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
    "unit",
    ["Hello there. ", "It costs 3.50. ", "Mr. Smith left. ", "x" * 300 + ". ", "Yes! No? ", "See https://a.example. "],
)
def test_a_long_text_is_split_as_its_parts_are(unit: str) -> None:
    def parts(text: str) -> list[tuple[str, bool]]:
        return [(piece.text, piece.translatable) for piece in segment(text, "en")]

    assert parts(unit * 500) == parts(unit) * 500


def test_pieces_know_where_they_begin_and_what_they_keep() -> None:
    text = "• Hi %s! See <b>a@b.de</b>.\n1 000 000\n😀"
    pieces = segment(text, "en")
    assert [piece.text for piece in pieces if piece.translatable] == ["Hi %s!", "See <b>a@b.de</b>."]
    for piece in pieces:
        assert text.startswith(piece.text, piece.start)
    assert [[piece.text[span.start : span.end] for span in piece.spans] for piece in pieces if piece.translatable] == [
        ["%s"],
        ["<b>", "a@b.de", "</b>"],
    ]


@pytest.mark.parametrize(
    "text",
    [
        "1 000 000",
        "+44 20 7946 0958",
        "-5",
        "1,250.00",
        "00:00:07,882 --> 00:00:10,510",
        "https://a.example/x",
        "foo_bar",
        "%s",
        "a@b.de",
        "README.MD",
        "10²",
        "<br/>",
        "&amp;",
        "```js",
        "`code`",
        ":-)",
        "5 + 3 = 8",
        "§ 5",
        "50 %",
        "100 €",
        "{{x}}, {y}",
    ],
)
def test_what_has_no_letters_outside_its_spans_is_not_translated(text: str) -> None:
    assert translatable(text) == []


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Hello! 😊 How are you?", ["Hello!", "How are you?"]),
        ("Thanks 😀", ["Thanks"]),
        ("• One", ["One"]),
        ("- One. Two", ["One.", "Two"]),
        ("1. Open it.", ["Open it."]),
        ("2) Open it.", ["Open it."]),
        ("## Title", ["Title"]),
        ("<b>Bold. Text.</b>", ["Bold.", "Text."]),
        ("<b>A</b> b <i>c</i>", ["<b>A</b> b <i>c</i>"]),
        ("<p><b>Hello</b></p>", ["Hello"]),
        ("**Bold**", ["Bold"]),
        ("**Bold** text", ["**Bold** text"]),
        ("[link](https://a.example)", ["link"]),
        ("\u202eGood\u2060morning\u202c", ["Good\u2060morning"]),
        ("— Oui. — Non.", ["Oui.", "Non."]),
    ],
)
def test_signs_and_tags_around_a_sentence_are_copied(text: str, sentences: list[str]) -> None:
    assert translatable(text) == sentences


def test_a_german_ordinal_is_no_number_of_a_list() -> None:
    assert translatable("5. Klasse", "de") == ["5. Klasse"]
    assert translatable("5) Klasse", "de") == ["Klasse"]


def test_lines_are_not_split() -> None:
    pieces = list(pieces_of("One. Two.\n\tThree! Four", "en", splitting=Splitting.LINES))
    assert [piece.text for piece in pieces if piece.translatable] == ["One. Two.", "Three! Four"]


def test_without_splitting_the_text_is_one_sentence() -> None:
    (before, piece, after) = pieces_of(" One.\nTwo %s. ", "en", splitting=Splitting.NONE)
    assert (before.text, piece.text, after.text) == (" ", "One.\nTwo %s.", " ")
    assert [(span.kind, piece.text[span.start : span.end]) for span in piece.spans] == [
        (Kind.SPACE, "\n"),
        (Kind.PLACEHOLDER, "%s"),
    ]


def test_joined_lines_say_where_they_stand_in_the_source() -> None:
    text = "This is a sen-\ntence. And\nanother.\n\nLast"
    pieces = list(pieces_of(text, "en", join_lines=True))
    assert [piece.text for piece in pieces if piece.translatable] == ["This is a sentence.", "And another.", "Last"]
    assert [piece.start for piece in pieces if piece.translatable] == [0, text.index("And"), text.index("Last")]


def test_marked_text_stays_whole() -> None:
    text = "Keep One. Two.\nThree. here. Next."
    start = text.index("One")
    pieces = list(pieces_of(text, "en", marked=[(start, start + 17)]))
    assert [piece.text for piece in pieces if piece.translatable] == ["Keep One. Two.\nThree. here.", "Next."]


def check_pieces(text: str, pieces: list[Piece]) -> None:
    """The laws of every way of splitting."""
    assert "".join(piece.text for piece in pieces) == text
    reached = 0
    borders = set()
    for piece in pieces:
        assert piece.start == reached
        reached += len(piece.text)
        borders.add(reached)
        assert piece.text
        outside, begin = "", 0
        for span in piece.spans:
            assert piece.translatable
            assert begin <= span.start < span.end <= len(piece.text)
            outside += piece.text[begin : span.start]
            begin = span.end
        assert not piece.translatable or any(map(str.isalpha, outside + piece.text[begin:]))
    assert all(is_border(text, border) for border in borders)
    for span in find_spans(text):
        assert not any(span.start < border < span.end for border in borders)


@pytest.mark.parametrize(
    "text",
    [
        " \u200d😀 word",
        "a. \ufe0f\u0301b",
        "a. \u0301\u0301b",
        "😀\u200d😀 word",
        "a\ufe0f\0b",
        "a\u200d\0",
        ". \u200d→x",
    ],
)
def test_pieces_divide_no_character_with_its_accents(text: str) -> None:
    check_pieces(text, segment(text, "en"))


@settings(max_examples=1_500, deadline=None)
@given(TEXTS, LANGUAGES, st.sampled_from(Splitting))
def test_laws_of_splitting(text: str, language: str, splitting: Splitting) -> None:
    check_pieces(text, list(pieces_of(text, language, splitting=splitting)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_laws_of_splitting_in_a_million_cases() -> None:
    rng = random.Random(1)
    num_pieces = num_spans = 0
    for _ in range(1_000_000):
        text = random_text(rng)
        pieces = list(
            pieces_of(text, rng.choice(("en", "de", "fr", "ko", "zh")), splitting=rng.choice(tuple(Splitting)))
        )
        check_pieces(text, pieces)
        num_pieces += len(pieces)
        num_spans += sum(len(piece.spans) for piece in pieces)
    print(f"1,000,000 texts: {num_pieces:,} pieces, {num_spans:,} spans inside sentences")


@settings(max_examples=500, deadline=None)
@given(TEXTS, LANGUAGES)
def test_joining_lines_loses_only_breaks_and_hyphens(text: str, language: str) -> None:
    pieces = list(pieces_of(text, language, join_lines=True))
    joined = joined_lines(text).text
    assert "".join(piece.text for piece in pieces) == joined
    removed = str.maketrans("", "", " \t\r\n-\xad\u2010")
    assert joined.translate(removed) == text.translate(removed)
    starts = [piece.start for piece in pieces]
    assert starts == sorted(starts)


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.integers(1, 20))
def test_parts_of_long_sentences_divide_no_span(text: str, limit: int) -> None:
    for piece in segment(text, "en"):
        if piece.translatable:
            parts = list(encode_to_fit(piece.text, characters, limit, piece.spans))
            assert "".join(part.text for part in parts) == piece.text
            encoded = [part for part in parts if part.tokens]
            assert [(part.start + span.start, part.start + span.end) for part in encoded for span in part.spans] == [
                (span.start, span.end)
                for span in piece.spans
                if any(part.start <= span.start and span.end <= part.start + len(part.text) for part in encoded)
            ]
            for part in parts:
                assert len(part.tokens) <= limit
                for span in piece.spans:
                    assert not (span.start < part.start < span.end) or span.end - span.start > 32


def test_no_more_than_2000_characters_are_encoded_at_once() -> None:
    seen: list[int] = []

    def encode(text: str) -> list[int]:
        seen.append(len(text))
        return characters(text)

    list(encode_to_fit("word " * 10_000 + "x" * 50_000, encode, 128))
    assert max(seen) <= 2_000


def test_a_long_address_is_never_encoded() -> None:
    address = "https://example.com/" + "a" * 500
    sentence = f"See {address} now"
    (piece,) = segment(sentence, "en")
    parts = list(encode_to_fit(piece.text, characters, 20, piece.spans))
    assert [part.text for part in parts if part.tokens] == ["See", "now"]
    assert address in [part.text for part in parts]


@pytest.mark.parametrize("unit", ATTACKS)
def test_time_is_linear(unit: str) -> None:
    """With quadratic time the tests would exceed their limit of time."""
    text = (unit * 8_000)[:8_000]
    check_pieces(text, segment(text, "en"))


@pytest.mark.slow
@pytest.mark.parametrize("unit", ATTACKS)
def test_time_is_linear_in_a_million_characters(unit: str) -> None:
    text = (unit * 1_000_000)[:1_000_000]
    assert "".join(piece.text for piece in segment(text, "de")) == text
