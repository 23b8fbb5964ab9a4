from __future__ import annotations

import asyncio
import itertools
import statistics
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure.calls import Call, Load, Search, rates, steady_window
from bench.measure.load import Target, closed_loop, open_loop, poisson_arrivals
from bench.peers.sentences import choose

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc

SEARCH = Search(beam_size=2, max_length=9, length_penalty=0.5)
SENTENCES = ["a", "bb", "ccc"]


class Echo(translation_pb2_grpc.TranslationServicer):
    """Answers every text with itself, after `delay` seconds; refuses "full"."""

    def __init__(self, delay: float = 0.0) -> None:
        self.delay = delay
        self.texts: list[str] = []
        self.running = self.most = 0

    async def Translate(self, request: Any, context: Any) -> pb.TranslateResponse:  # noqa: N802
        (text,) = request.texts
        return pb.TranslateResponse(translations=[await self._translation(text, request.options, context)])

    async def TranslateStream(self, request: Any, context: Any) -> AsyncIterator[pb.TranslateStreamResponse]:  # noqa: N802
        yield pb.TranslateStreamResponse(chunk=request.text[:1])
        translation = await self._translation(request.text, request.options, context)
        yield pb.TranslateStreamResponse(result=pb.TranslateStreamResult(translation=translation))

    async def _translation(self, text: str, options: Any, context: Any) -> pb.TextTranslation:
        assert (options.beam_size, options.max_length, options.length_penalty) == (2, 9, 0.5)
        self.texts.append(text)
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(self.delay)
        self.running -= 1
        if text == "full":
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "full")
        return pb.TextTranslation(hypotheses=[pb.Hypothesis(text=text)], source_tokens=len(text), target_tokens=1)


async def closed(echo: Echo, clients: int, count: int, sentences: list[str] = SENTENCES) -> Load:
    async with serving(echo) as address:
        return await closed_loop(Target(address, SEARCH), sentences, clients, count)


async def opened(echo: Echo, arrivals: list[float], *, stream: bool) -> Load:
    async with serving(echo) as address:
        return await open_loop(Target(address, SEARCH, stream), SENTENCES, arrivals)


class serving:  # noqa: N801 - a context manager
    def __init__(self, echo: Echo) -> None:
        self.echo = echo

    async def __aenter__(self) -> str:
        self.server = grpc.aio.server()
        translation_pb2_grpc.add_TranslationServicer_to_server(self.echo, self.server)
        port = self.server.add_insecure_port("127.0.0.1:0")
        await self.server.start()
        return f"127.0.0.1:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop(None)


def test_a_closed_loop_keeps_so_many_calls_running_and_goes_round_the_sentences() -> None:
    echo = Echo(delay=0.01)
    load = asyncio.run(closed(echo, clients=4, count=11))
    assert len(load.calls) == 11
    assert echo.most == 4
    assert echo.texts[:7] == ["a", "bb", "ccc", "a", "bb", "ccc", "a"]
    assert all(call.text == SENTENCES[call.sentence] for call in load.calls)
    assert all(call.source_tokens == len(call.text) and call.target_tokens == 1 for call in load.calls)
    assert not load.errors
    assert load.client_wall > load.client_cpu > 0


def test_refusals_are_counted_and_not_answers() -> None:
    load = asyncio.run(closed(Echo(), clients=1, count=4, sentences=["a", "full"]))
    assert load.errors == {"RESOURCE_EXHAUSTED": 2}
    assert [call.text for call in load.answered] == ["a", "a"]


@pytest.mark.parametrize("stream", [False, True])
def test_an_open_loop_sends_whatever_the_answers_do(stream: bool) -> None:
    """All calls arrive at once, and none is answered before all have been sent."""
    echo = Echo(delay=0.2)
    load = asyncio.run(opened(echo, [0.0] * 5, stream=stream))
    assert echo.most == len(load.calls) == 5
    for call in load.calls:
        assert call.intended <= call.sent <= call.first <= call.done
        assert (call.first < call.done) == stream
        assert call.text == SENTENCES[call.sentence]


def test_latency_counts_from_the_intended_time() -> None:
    late = Call(0, intended=1.0, sent=1.5, first=1.6, done=2.0)
    load = Load([late])
    assert load.lag == 0.5
    assert rates(4.0, load.calls).p50 == 1.0


def test_arrivals_are_poisson_and_the_same_for_the_same_seed() -> None:
    arrivals = poisson_arrivals(50.0, 100.0, seed=3)
    assert arrivals == poisson_arrivals(50.0, 100.0, seed=3) != poisson_arrivals(50.0, 100.0, seed=4)
    assert arrivals == sorted(arrivals)
    assert arrivals[0] > 0
    assert arrivals[-1] < 100.0
    gaps = [b - a for a, b in itertools.pairwise(arrivals)]
    # Exponential gaps: mean and standard deviation are both 1 / rate; four standard errors are allowed.
    assert abs(len(arrivals) - 5000) < 4 * 5000**0.5
    assert statistics.stdev(gaps) == pytest.approx(0.02, rel=0.1)


def test_the_steady_window_begins_where_the_skipped_calls_end() -> None:
    calls = [Call(i, 0.0, 0.0, float(i), float(i)) for i in (3, 1, 2, 5, 4)]
    seconds, window = steady_window(calls, 2, 3)
    assert seconds == 3.0  # from 2 to 5
    assert [call.sentence for call in window] == [3, 4, 5]
    with pytest.raises(ValueError, match="allowed"):
        steady_window(calls, 3, 3)
    with pytest.raises(ValueError, match="allowed"):
        steady_window(calls, 0, 3)


def test_rates_are_per_second_and_latencies_by_rank() -> None:
    calls = [Call(i, 0.0, 0.0, i / 10, i / 10, source_tokens=3, target_tokens=2) for i in range(1, 101)]
    found = rates(20.0, calls)
    assert (found.sentences, found.source_tokens, found.target_tokens) == (5.0, 15.0, 10.0)
    assert (found.p50, found.p99) == (5.0, 9.9)


def test_sentences_come_evenly_from_all_files_and_are_those_that_fit() -> None:
    files = [[f"news {i}" for i in range(50)] + ["too long"] * 50, [f"caption {i}" for i in range(50)]]
    chosen = choose(files, 21, 1, lambda line: line != "too long")
    assert chosen == choose(files, 21, 1, lambda line: line != "too long") != choose(files, 21, 2, lambda line: True)
    assert len(set(chosen)) == 21
    assert sum(line.startswith("news") for line in chosen) == 10
    assert "too long" not in chosen
    with pytest.raises(ValueError, match="0 lines fit"):
        choose(files, 4, 1, lambda line: False)
