"""Byte pieces form whole characters, as Python's decoder sees it."""

from __future__ import annotations

import dataclasses
import itertools
import random
from collections.abc import Sequence

import numpy as np
import pytest

from dragoman_service.engine.request import Event, Finished, Request, Sampling
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.engine.search.utf8 import BytePieces, WholeCharacters
from support.builders import make_request, run_to_end, streamed
from support.fake_runner import BEGIN, END, VOCAB_SIZE
from support.worlds import World, WorldRunner

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


# --- in the search

BYTES = BytePieces(dict(zip(range(10, 20), b"\xe2\x82\xac\xc3\xa4\x80\xff\x41\xf0\x9f", strict=True)))


def run(requests: list[Request], pieces: BytePieces) -> tuple[dict[int, Finished], list[Event]]:
    scheduler = Scheduler(max_rows=12, begin_id=BEGIN, end_id=END, vocab_size=VOCAB_SIZE, byte_pieces=pieces)
    for request in requests:
        scheduler.add(request, 0.0)
    events = run_to_end(scheduler, WorldRunner(12, World()))
    return {event.request_id: event for event in events if isinstance(event, Finished)}, events


def data_of(tokens: Sequence[int]) -> bytes:
    return bytes(BYTES.byte_of.get(token, 0x20) for token in tokens)


def test_no_translation_tears_a_character_apart() -> None:
    rng = random.Random(3)
    requests = [World().request(rng, number) for number in range(150)]
    requests = [dataclasses.replace(request, target_prefix=()) for request in requests]
    finished, events = run(requests, BYTES)
    without, _ = run(requests, BytePieces({}))
    assert finished.keys() == {request.id for request in requests}
    changed = 0
    for request in requests:
        for hypothesis in finished[request.id].hypotheses:
            data_of(hypothesis.tokens).decode()
            assert len(hypothesis.tokens) == len(hypothesis.token_scores)
        if request.stream:
            sent = streamed(events, request.id)
            assert sent[: len(finished[request.id].hypotheses[0].tokens)] == finished[request.id].hypotheses[0].tokens
        changed += finished[request.id].hypotheses != without[request.id].hypotheses
    assert changed > 20


def test_greedy_search_differs_only_where_a_character_would_be_torn_apart() -> None:
    requests = [make_request(number) for number in range(200)]
    finished, _ = run(requests, BYTES)
    without, _ = run(requests, BytePieces({}))
    for request in requests:
        got, free = (it[request.id].hypotheses[0].tokens for it in (finished, without))
        torn = next((place for place in range(len(free)) if not BYTES.fits(free[:place], free[place])), len(free))
        assert got[:torn] == free[:torn] or len(got) < torn


def test_a_beam_that_has_lost_hypotheses_is_the_same_beside_samples() -> None:
    """It has rows without one when it reaches its minimum length, from which on it is not constrained."""
    beams = [make_request(number, beam_size=4, num_hypotheses=4, min_length=2) for number in range(100)]
    samples = [make_request(100 + number, sampling=Sampling(seed=number), num_hypotheses=2) for number in range(100)]
    crowd, _ = run([request for pair in zip(beams, samples, strict=True) for request in pair], BYTES)
    for request in beams:
        alone, _ = run([request], BYTES)
        assert crowd[request.id].hypotheses == alone[request.id].hypotheses
