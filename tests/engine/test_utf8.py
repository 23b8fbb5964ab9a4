"""Byte pieces form whole characters, as Python's decoder sees it."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from dragoman_service.engine.search.utf8 import BytePieces, WholeCharacters

FIRST = 10
PIECES = BytePieces({FIRST + byte: byte for byte in range(256)})
WORD = 5


def begins_characters(data: bytes) -> bool:
    """Whether bytes are the beginning of valid UTF-8, by trying what may follow."""
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


@pytest.mark.parametrize("lead", [0x41, 0x80, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xED, 0xEF, 0xF0, 0xF4, 0xF5, 0xFF])
def test_the_bytes_that_may_follow_are_those_of_utf8(lead: int) -> None:
    assert PIECES.fits([WORD], FIRST + lead) is begins_characters(bytes([lead]))
    if not begins_characters(bytes([lead])):
        return
    for second, third in itertools.product(range(0, 256, 8), (0x7F, 0x80, 0xBF, 0xC0)):
        data = bytes([lead, second])
        assert PIECES.fits([WORD, FIRST + lead], FIRST + second) is begins_characters(data), data
        if begins_characters(data):
            tokens = [FIRST + byte for byte in data]
            assert PIECES.fits(tokens, FIRST + third) is begins_characters(data + bytes([third]))


def test_words_and_ends_come_between_characters() -> None:
    euro = [FIRST + byte for byte in "€".encode()]
    assert PIECES.fits(euro, WORD)
    assert not PIECES.fits(euro[:2], WORD)
    assert PIECES.whole([WORD, *euro[:2]]) == 1
    assert PIECES.whole([WORD, *euro]) == 4


def test_a_restriction_allows_what_fits() -> None:
    rng = random.Random(1)
    for _ in range(200):
        tokens: list[int] = []
        for _ in range(rng.randrange(8)):
            fitting = [token for token in range(FIRST + 256) if PIECES.fits(tokens, token)]
            tokens.append(rng.choice(fitting))
        mask = WholeCharacters(PIECES, 2).allowed(np.array(tokens, np.int64), FIRST + 256)
        if len(tokens) < 2:
            assert mask is None
        else:
            assert mask is not None
            assert mask.tolist() == [PIECES.fits(tokens, token) for token in range(FIRST + 256)]
