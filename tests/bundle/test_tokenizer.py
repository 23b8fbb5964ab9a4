from __future__ import annotations

import unicodedata

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from dragoman_service.bundle.tokenizer import Tokenizer
from dragoman_service.errors import InvalidInput
from support.tiny import tokenizer_model

TOKENIZER = Tokenizer(tokenizer_model())
BYTES = st.sampled_from([i for i in range(TOKENIZER.vocab_size) if TOKENIZER.pieces([i])[0].startswith("<0x")])
IDS = st.lists(st.one_of(st.integers(0, TOKENIZER.vocab_size - 1), BYTES), max_size=16)
CUTS = st.lists(st.integers(0, 4), max_size=16)
TEXTS = st.one_of(
    st.text(max_size=40), st.text(alphabet="ab é😀👩‍👩‍👧日本語 ع\u0301\u200b\ufffd▁.", max_size=20)
)  # any characters, and texts crowded with the awkward ones


def streamed(ids: list[int], cuts: list[int]) -> str:
    decoder, text, start = TOKENIZER.stream_decoder(), "", 0
    for count in cuts:
        text += decoder.push(ids[start : start + count])
        start += count
    return text + decoder.push(ids[start:]) + decoder.flush()


@given(IDS, CUTS)
def test_streamed_text_is_the_decoded_text_for_any_ids(ids: list[int], cuts: list[int]) -> None:
    assert streamed(ids, cuts) == TOKENIZER.decode(ids)


@given(TEXTS, CUTS)
def test_streamed_text_is_the_decoded_text_for_any_text(text: str, cuts: list[int]) -> None:
    ids = TOKENIZER.encode(text)
    assert streamed(ids, cuts) == TOKENIZER.decode(ids)


@given(TEXTS)
def test_nothing_is_out_of_vocabulary_and_decoding_is_stable(text: str) -> None:
    ids = TOKENIZER.encode(text)
    assert not set(ids) & {TOKENIZER.pad_id, TOKENIZER.begin_id, TOKENIZER.end_id, TOKENIZER.unknown_id}
    decoded = TOKENIZER.decode(ids)
    assert TOKENIZER.decode(TOKENIZER.encode(decoded)) == decoded


@pytest.mark.parametrize("text", ["😀", "日本語", "Ωμέγα", "a\u200db", "x😀y", "</s> <s> <unk> <pad> <0x41>", "\0"])
def test_unseen_characters_survive(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t\r\n\u3000", ""),
        ("\x01\x02\x7f", ""),
        ("\ufeff\ufffd\u200b\u200e▁", ""),
        ("  a \t\n b  ", "a b"),
        ("a\x07b", "ab"),
        ("ﬁ Å ①", "fi Å 1"),
    ],
)
def test_what_normalisation_drops_is_what_the_docstring_says(text: str, expected: str) -> None:
    assert TOKENIZER.decode(TOKENIZER.encode(text)) == expected
    assert bool(TOKENIZER.encode(text)) == bool(expected)


@given(st.characters(max_codepoint=0x9FFF))  # beyond, new characters are added to NFKC every year
def test_a_character_is_lost_only_as_the_docstring_says(character: str) -> None:
    decoded = TOKENIZER.decode(TOKENIZER.encode(f"a{character}b"))
    becomes_space = character.isspace() or character in "\u061c\u200b\u200c\u200e\u200f▁"
    vanishes = character in {*map(chr, range(1, 0x20)), "\x7f", "\x8f", "\x9f"} and character not in "\t\n\f\r"
    if vanishes:
        assert decoded == "ab"
    elif becomes_space:
        assert decoded in ("a b", f"a{character}b")  # NEL and the like are kept
    else:
        assert unicodedata.normalize("NFKC", decoded).split() == unicodedata.normalize("NFKC", f"a{character}b").split()


def test_a_character_of_several_bytes_is_held_back_until_it_is_whole() -> None:
    ids = [i for i in TOKENIZER.encode("😀") if TOKENIZER.pieces([i])[0].startswith("<0x")]
    decoder = TOKENIZER.stream_decoder()
    assert [decoder.push([i]) for i in ids] == ["", "", "", "😀"]


def test_a_character_that_stays_incomplete_is_replaced_at_the_end() -> None:
    ids = [i for i in TOKENIZER.encode("😀") if TOKENIZER.pieces([i])[0].startswith("<0x")][:2]
    decoder = TOKENIZER.stream_decoder()
    assert decoder.push(ids) == ""
    assert decoder.flush() == "\ufffd\ufffd" == TOKENIZER.decode(ids)


def test_only_the_first_word_loses_its_space() -> None:
    ids = TOKENIZER.encode("house house")
    decoder = TOKENIZER.stream_decoder()
    assert [decoder.push([i]) for i in ids] == ["house", " house"]
    assert TOKENIZER.pieces(ids) == ["▁house", "▁house"]


@pytest.mark.parametrize("wrong", [-1, TOKENIZER.vocab_size])
def test_ids_outside_of_the_vocabulary_are_refused(wrong: int) -> None:
    for refuse in (TOKENIZER.decode, TOKENIZER.pieces, TOKENIZER.stream_decoder().push):
        with pytest.raises(InvalidInput, match="token id"):
            refuse([wrong])


def test_lone_surrogates_are_refused() -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        TOKENIZER.encode("a\ud800")


@pytest.mark.parametrize("data", [b"", b"garbage"])
def test_a_damaged_model_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="SentencePiece"):
        Tokenizer(data)


@pytest.mark.parametrize(
    ("options", "message"), [({"byte_fallback": False}, "byte_fallback"), ({"pad_id": -1, "unk_id": 0}, "padding")]
)
def test_a_model_trained_otherwise_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        Tokenizer(tokenizer_model(**options))


def test_it_agrees_with_sentencepiece() -> None:
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model())
    ids = TOKENIZER.encode("Der Hund sieht das grüne Haus 😀.")
    assert ids == processor.encode("Der Hund sieht das grüne Haus 😀.")
    assert TOKENIZER.decode(ids) == processor.decode(ids)
