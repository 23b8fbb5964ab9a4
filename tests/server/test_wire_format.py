from __future__ import annotations

import time

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput
from dragoman_service.server.wire_format import MessageLimits, check_message

LIMITS = MessageLimits({1: ("texts", 5), 6: ("target_prefixes", 5)}, max_others=10)


@given(
    texts=st.lists(st.text(), max_size=5),
    prefixes=st.lists(st.text(), max_size=5),
    beam=st.integers(-(2**31), 2**31 - 1),
    penalty=st.floats(allow_nan=False),
    tokens=st.booleans(),
)
def test_messages_within_the_limits_pass(
    texts: list[str], prefixes: list[str], beam: int, penalty: float, tokens: bool
) -> None:
    options = pb.DecodingOptions(beam_size=beam, length_penalty=penalty, sampling=pb.Sampling(seed=2**64 - 1))
    message = pb.TranslateRequest(
        texts=texts, target_prefixes=prefixes, options=options, return_tokens=tokens, source_language="en"
    )
    check_message(message.SerializeToString(), LIMITS)


@pytest.mark.parametrize("field", ["texts", "target_prefixes"])
def test_too_many_values_are_refused_by_name(field: str) -> None:
    message = pb.TranslateRequest(**{field: [""] * 6})  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match=f"{field}: got 'more than 5 values'; allowed: at most 5"):
        check_message(message.SerializeToString(), LIMITS)


def test_millions_of_empty_texts_are_refused_after_a_few() -> None:
    started = time.process_time()
    with pytest.raises(InvalidInput):
        check_message(b"\x0a\x00" * 2_000_000, LIMITS)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("data", [b"\x10\x01" * 11, b"\xa2\x06\x00" * 11, b"\x15abcd" * 11, b"\x11abcdefgh" * 11])
def test_fields_that_nobody_knows_are_limited_too(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="more than 10 fields"):
        check_message(data, LIMITS)
    check_message(data[: len(data) // 11 * 10], LIMITS)


@pytest.mark.parametrize("data", [b"\x0b", b"\x0c", b"\x0e", b"\x0f"])
def test_groups_and_unknown_wire_types_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="wire type"):
        check_message(data, LIMITS)


def test_large_messages_are_refused_where_only_small_ones_make_sense() -> None:
    with pytest.raises(InvalidInput, match="11 bytes"):
        check_message(b"\0" * 11, MessageLimits({}, max_bytes=10))


@given(st.binary(max_size=60))
def test_no_bytes_break_the_check_and_what_passes_has_few_values(data: bytes) -> None:
    try:
        check_message(data, LIMITS)
    except InvalidInput:
        return
    try:
        message = pb.TranslateRequest.FromString(data)
    except DecodeError:
        return
    assert len(message.texts) <= 5
    assert len(message.target_prefixes) <= 5
