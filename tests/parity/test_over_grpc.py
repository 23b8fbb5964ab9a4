"""The top of the ladder: a real server process and many clients give what the engine gives a sentence alone."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.client import AsyncTranslationClient
from dragoman_service.client.values import Options, Translation
from dragoman_service.engine.request import DecodingOptions
from support.parity import MAX_LENGTH, NUM_REAL, encode, real_sentences, served, shipped_bundle
from support.server_process import server_process
from support.tiny import sentences


async def translate_crowded(address: str, texts: Sequence[str], beam_size: int, clients: int) -> list[Translation]:
    """Every text in a call of its own, from `clients` connections at once that take the next text when they can."""
    options = Options(beam_size=beam_size, max_length=MAX_LENGTH, return_tokens=True, return_token_scores=True)
    waiting = iter(enumerate(texts))
    found: dict[int, Translation] = {}

    async def client() -> None:
        async with AsyncTranslationClient(address) as connection:
            for index, text in waiting:
                (found[index],) = await connection.translate([text], options)

    await asyncio.gather(*(client() for _ in range(clients)))
    return [found[index] for index in range(len(texts))]


def check(bundle: Bundle, address: str, texts: Sequence[str], beam_size: int, clients: int) -> None:
    """Tokens, and scores to the last bit that a reply carries, are those of each sentence alone."""
    alone = served(bundle, encode(bundle, texts), beam_size, DecodingOptions(beam_size=beam_size), as_texts=True)
    crowded = asyncio.run(translate_crowded(address, texts, beam_size, clients))
    for text, expected, translation in zip(texts, alone, crowded, strict=True):
        best = translation.hypotheses[0]
        assert best.tokens == tuple(bundle.tokenizer.pieces(expected.tokens)), text
        assert best.token_scores == tuple(np.float32(expected.token_scores).tolist()), text
        assert best.finish_reason.value == expected.finish_reason.value, text


@pytest.mark.parametrize("beam_size", [1, 4])
def test_over_grpc_equals_alone(any_tiny_bundle: Bundle, beam_size: int) -> None:
    with server_process([Path(any_tiny_bundle.path)]) as server:
        check(any_tiny_bundle, server.address, sentences(32, seed=3), beam_size, clients=16)


@pytest.mark.slow
@pytest.mark.parametrize("beam_size", [1, 4])
def test_the_shipped_model_over_grpc(beam_size: int) -> None:
    """Real sentences from 32 clients at once."""
    bundle = Bundle.load(shipped_bundle())
    texts = real_sentences(bundle, NUM_REAL)
    with server_process([bundle.path]) as server:
        check(bundle, server.address, texts, beam_size, clients=32)
