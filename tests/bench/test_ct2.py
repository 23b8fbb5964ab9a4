from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ctranslate2")
sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure.calls import Search
from bench.peers.ct2_direct import Translated
from bench.peers.ct2_server import Batcher

GREEDY, BEAM = Search(1, 9, 0.0), Search(4, 9, 0.0)


class FakeTranslator:
    """Notes the batches; the first one waits for `gate`."""

    def __init__(self) -> None:
        self.batches: list[tuple[list[str], Search]] = []
        self.gate = threading.Event()

    def translate(self, texts: Sequence[str], search: Search) -> list[Translated]:
        self.batches.append((list(texts), search))
        self.gate.wait(10)
        if "bad" in texts:
            raise RuntimeError("bad")
        return [Translated(text.upper(), len(text), len(text)) for text in texts]


async def translate(fake: Any, texts: Sequence[tuple[str, Search]], batch_size: int, wait: float) -> list[Any]:
    batcher = Batcher(fake, 1, batch_size, wait)
    calls = []
    for text, search in texts:
        calls.append(asyncio.create_task(batcher.translate(text, search)))
        await asyncio.sleep(0.01)
    fake.gate.set()
    return await asyncio.gather(*calls, return_exceptions=True)


def test_calls_that_come_while_a_batch_runs_make_the_next_one() -> None:
    fake = FakeTranslator()
    found = asyncio.run(translate(fake, [(text, GREEDY) for text in "abcdef"], batch_size=3, wait=0.0))
    assert [batch for batch, _ in fake.batches] == [["a"], ["b", "c", "d"], ["e", "f"]]
    assert [one.text for one in found] == list("ABCDEF")


def test_a_call_waits_for_company_until_the_batch_is_full() -> None:
    fake = FakeTranslator()
    asyncio.run(translate(fake, [(text, GREEDY) for text in "abcd"], batch_size=2, wait=60.0))
    assert [batch for batch, _ in fake.batches] == [["a", "b"], ["c", "d"]]


def test_calls_of_different_searches_never_share_a_batch() -> None:
    fake = FakeTranslator()
    asyncio.run(translate(fake, [("a", GREEDY), ("b", BEAM), ("c", GREEDY)], batch_size=3, wait=0.05))
    assert sorted(fake.batches, key=lambda pair: pair[0]) == [(["a", "c"], GREEDY), (["b"], BEAM)]


def test_a_batch_that_fails_fails_its_calls_and_no_others() -> None:
    fake = FakeTranslator()
    found = asyncio.run(translate(fake, [("a", GREEDY), ("bad", GREEDY), ("c", GREEDY)], batch_size=1, wait=0.0))
    assert [one.text for one in (found[0], found[2])] == ["A", "C"]
    assert isinstance(found[1], RuntimeError)
