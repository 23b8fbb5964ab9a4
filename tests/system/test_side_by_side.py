"""A real server with two lanes: both work, and nobody can see from a translation which of them made it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.client import AsyncTranslationClient
from dragoman_service.client.values import Options, Translation
from support.server_process import ServerProcess, server_process
from support.tiny import sentences

MAX_LENGTH = 24


def lanes(count: int) -> tuple[str, ...]:
    return ("--threads", str(count), "--lanes", str(count))


async def translate(address: str, texts: Sequence[str], beam_size: int) -> list[Translation]:
    """All texts at once, each in a call of its own."""
    options = Options(
        beam_size=beam_size,
        num_hypotheses=beam_size,
        max_length=MAX_LENGTH,
        return_tokens=True,
        return_token_scores=True,
    )
    async with AsyncTranslationClient(address) as client:
        answers = await asyncio.gather(*(client.translate([text], options) for text in texts))
    return [translation for (translation,) in answers]


def results(server: ServerProcess, texts: Sequence[str]) -> list[object]:
    """All that a translation is but its timings."""
    translations = [t for beam_size in (1, 3) for t in asyncio.run(translate(server.address, texts, beam_size))]
    return [(t.hypotheses, t.finish_reason, t.source_tokens, t.target_tokens) for t in translations]


def test_two_lanes_give_what_one_gives(tiny_bundle: Bundle) -> None:
    texts = sentences(40, seed=11)
    with server_process([Path(tiny_bundle.path)], *lanes(1)) as server:
        expected = results(server, texts)
    with server_process([Path(tiny_bundle.path)], *lanes(2)) as server:
        assert results(server, texts) == expected


def test_both_lanes_work_at_once_and_metrics_are_of_the_whole_model(tiny_bundle: Bundle) -> None:
    narrow = ("--max-rows", "2", "--default-beam-size", "1")  # a row for each lane
    slow = Options(beam_size=1, min_length=60, max_length=60)

    async def flood(server: ServerProcess) -> None:
        """Keep the server busy until both rows are seen to be taken."""
        seen = asyncio.Event()

        async def call(client: AsyncTranslationClient, text: str) -> None:
            while not seen.is_set():
                await client.translate([text], slow)

        async with AsyncTranslationClient(server.address) as client:
            calls = asyncio.gather(*(call(client, text) for text in sentences(24, seed=12)))
            await asyncio.to_thread(server.wait_for_metrics, lambda m: m["dragoman_slots_used"] == 2)
            seen.set()
            await calls

    with server_process([Path(tiny_bundle.path)], *lanes(2), *narrow) as server:
        asyncio.run(flood(server))
        server.wait_until_free()
        metrics = server.metrics()
    assert metrics["dragoman_slots_total"] == 2
    # Two rows were taken at once, and yet no step had more than one: they were rows of two lanes.
    assert metrics["dragoman_step_rows_sum"] == metrics["dragoman_step_rows_count"] > 0
