"""Ids become the text that SentencePiece makes of them, and their spans are where it has them."""

from __future__ import annotations

from typing import Any

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from dragoman_service.bundle.tokenizers.decoding import Detokenizer, LeadingSpaces
from dragoman_service.bundle.tokenizers.encoding import byte_ids, leading_spaces, pieces_of
from dragoman_service.errors import InvalidInput
from support.family_tokenizers import NO_BYTES
from support.tiny import tokenizer_model

OPTIONS: dict[str, dict[str, Any]] = {
    "bytes": {},
    "no bytes": NO_BYTES,
    "bpe": {"model_type": "bpe"},
    "characters": {"model_type": "char", **NO_BYTES},
    "spaces kept": {"remove_extra_whitespaces": False},
    "no space added": {"add_dummy_prefix": False},
    "neither": {"remove_extra_whitespaces": False, "add_dummy_prefix": False},
    "not split at spaces": {"split_by_whitespace": False, "remove_extra_whitespaces": False},
}
MODELS = {
    name: sentencepiece.SentencePieceProcessor(model_proto=tokenizer_model(**options))
    for name, options in OPTIONS.items()
}


def detokenizer(model: Any) -> Detokenizer:
    pieces = dict(enumerate(pieces_of(model)))
    return Detokenizer(
        size=len(pieces),
        pieces=pieces,
        silent=frozenset(i for i in pieces if model.is_control(i)),
        bytes=byte_ids(model, pieces),
        verbatim={model.unk_id(): model.decode([model.unk_id()])},
        leading=leading_spaces(model),
    )


OURS = {name: detokenizer(model) for name, model in MODELS.items()}


@pytest.mark.parametrize("name", OPTIONS)
@settings(deadline=None)
@given(seeds=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 10_000)), max_size=12))
def test_any_ids_become_the_text_of_sentencepiece(name: str, seeds: list[tuple[int, int]]) -> None:
    model, ours = MODELS[name], OURS[name]
    words = [i for i, piece in ours.pieces.items() if piece in ("▁", "a", "▁the", "<unk>", "</s>")]
    groups = [words, [*ours.bytes] or words, range(ours.size)]
    ids = [groups[group][seed % len(groups[group])] for group, seed in seeds]
    assert ours.decode(ids) == model.decode(ids)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("bytes", LeadingSpaces.DROP_ALL),
        ("no bytes", LeadingSpaces.DROP_ALL),
        ("characters", LeadingSpaces.DROP_ALL),
        ("spaces kept", LeadingSpaces.DROP_FIRST),
        ("no space added", LeadingSpaces.DROP_ALL),
        ("neither", LeadingSpaces.KEEP),
    ],
)
def test_what_a_model_does_with_leading_spaces_is_found(name: str, expected: LeadingSpaces) -> None:
    assert leading_spaces(MODELS[name]) is expected


def test_bytes_have_the_span_of_their_character() -> None:
    ours, model = OURS["bytes"], MODELS["bytes"]
    ids = [*model.encode("the 😀"), *model.encode("house")]
    text, spans = ours.decode_with_offsets(ids)
    assert text == "the 😀 house"
    assert spans == [(0, 3), (3, 4), (4, 5), (4, 5), (4, 5), (4, 5), (5, 11)]


def test_bytes_that_are_no_character_have_a_span_each() -> None:
    ours = OURS["bytes"]
    of_byte = {byte: i for i, byte in ours.bytes.items()}
    ids = [of_byte[byte] for byte in (0x41, 0xF0, 0x9F, 0x42, 0xC3)]
    assert ours.decode_with_offsets(ids) == ("A\ufffd\ufffdB\ufffd", [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xed\xa0\x80", "\ufffd" * 3),  # a surrogate
        (b"\xe0\x80\x80", "\ufffd" * 3),  # longer than need be
        (b"\xf4\x90\x80\x80", "\ufffd" * 4),  # beyond U+10FFFF
        (b"\xf5\xc0\x80", "\ufffd" * 3),
        (b"\xf0\x9f\x98\x80\xe2", "😀\ufffd"),
    ],
)
def test_invalid_utf8_is_replaced_byte_by_byte(data: bytes, text: str) -> None:
    ours, model = OURS["bytes"], MODELS["bytes"]
    of_byte = {byte: i for i, byte in ours.bytes.items()}
    ids = [of_byte[byte] for byte in data]
    assert ours.decode(ids) == model.decode(ids) == text


def test_ids_without_a_piece_have_no_text() -> None:
    ours = Detokenizer(size=10, pieces={1: "▁a", 2: "b▁"}, silent={3})
    assert ours.decode_with_offsets([1, 5, 2]) == (" ab ", [(0, 2), (2, 2), (2, 4)])
    assert ours.shown([1, 5]) == ["▁a", "<unused>"]
    with pytest.raises(InvalidInput, match="token id: got 10; allowed: 0 to 9"):
        ours.decode([10])
