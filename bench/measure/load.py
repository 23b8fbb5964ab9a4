"""The load generator, in a separate process so that it does not share an interpreter with the measured server.

A closed loop keeps a fixed number of calls running. An open loop sends calls at given times, whatever the latency.
"""

from __future__ import annotations

import asyncio
import functools
import multiprocessing
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import grpc

from bench.measure.calls import Call, Load, Search
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc

ANSWER_SECONDS = 120.0
"""Seconds after which a call without an answer counts as failed."""
_OF_ITS_OWN = (("grpc.use_local_subchannel_pool", 1),)
"""Options of a channel that shares no connection with others to the same address."""


@dataclass(frozen=True, slots=True)
class Target:
    """Address and options of the calls of a load."""

    address: str
    search: Search
    stream: bool = False
    connections: int = 1
    """Connections of a closed loop. Each goes to one process of a server that has several."""


def poisson_arrivals(rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds from the start at which calls arrive, `rate` a second on average, independently of each other."""
    rng = random.Random(seed)
    arrivals: list[float] = []
    now = rng.expovariate(rate)
    while now < seconds:
        arrivals.append(now)
        now += rng.expovariate(rate)
    return arrivals


class LoadGenerator:
    """The client process, which is idle between loads. `load_generator` creates it."""

    def __init__(self, pool: ProcessPoolExecutor) -> None:
        self._pool = pool

    def closed_loop(self, target: Target, sentences: Sequence[str], clients: int, count: int) -> Load:
        """Keep `clients` calls running, each of the next sentence in a cycle, until `count` calls have ended."""
        return self._pool.submit(_run_closed_loop, target, sentences, clients, count).result()

    def open_loop(self, target: Target, sentences: Sequence[str], arrivals: Sequence[float]) -> Load:
        """Send a call at each time of `arrivals`, in seconds from the start, and wait for all answers."""
        return self._pool.submit(_run_open_loop, target, sentences, arrivals).result()


@contextmanager
def load_generator() -> Iterator[LoadGenerator]:
    """Start the client process."""
    # Spawned, because gRPC does not support fork.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield LoadGenerator(pool)


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all loads: gRPC complains of each earlier one that is closed."""
    return asyncio.new_event_loop()


def _run_closed_loop(target: Target, sentences: Sequence[str], clients: int, count: int) -> Load:
    return _loop().run_until_complete(closed_loop(target, sentences, clients, count))


def _run_open_loop(target: Target, sentences: Sequence[str], arrivals: Sequence[float]) -> Load:
    return _loop().run_until_complete(open_loop(target, sentences, arrivals))


async def closed_loop(target: Target, sentences: Sequence[str], clients: int, count: int) -> Load:
    """See LoadGenerator.closed_loop. Calls still running at the end are cancelled and not part of the load."""
    load = Load()
    numbers = iter(range(10**9))

    async def client(channel: grpc.aio.Channel) -> None:
        stub = translation_pb2_grpc.TranslationStub(channel)
        while len(load.calls) < count:
            index = next(numbers) % len(sentences)
            load.calls.append(await _call(stub, target, index, sentences[index], time.monotonic()))
            if len(load.calls) == count:
                finished.set()

    async with AsyncExitStack() as stack:
        channels = [
            await stack.enter_async_context(grpc.aio.insecure_channel(target.address, options=_OF_ITS_OWN))
            for _ in range(target.connections)
        ]
        for channel in channels:
            await channel.channel_ready()
        finished = asyncio.Event()
        with _clocks(load):
            tasks = [asyncio.create_task(client(channels[index % len(channels)])) for index in range(clients)]
            await finished.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    del load.calls[count:]
    return load


async def open_loop(target: Target, sentences: Sequence[str], arrivals: Sequence[float]) -> Load:
    """See LoadGenerator.open_loop. The n-th call has the n-th sentence, in a cycle."""
    load = Load()

    async def call(stub: translation_pb2_grpc.TranslationStub, index: int, intended: float) -> None:
        load.calls.append(await _call(stub, target, index, sentences[index], intended))

    async with grpc.aio.insecure_channel(target.address) as channel:
        await channel.channel_ready()
        stub = translation_pb2_grpc.TranslationStub(channel)
        with _clocks(load):
            tasks = []
            start = time.monotonic()
            for number, arrival in enumerate(arrivals):
                await asyncio.sleep(start + arrival - time.monotonic())
                tasks.append(asyncio.create_task(call(stub, number % len(sentences), start + arrival)))
            await asyncio.gather(*tasks)
    return load


async def _call(
    stub: translation_pb2_grpc.TranslationStub, target: Target, index: int, text: str, intended: float
) -> Call:
    """Translate one sentence."""
    search = target.search
    options = pb.DecodingOptions(
        beam_size=search.beam_size, max_length=search.max_length, length_penalty=search.length_penalty
    )
    sent = time.monotonic()
    first = 0.0
    try:
        if target.stream:
            request = pb.TranslateStreamRequest(text=text, options=options)
            async for message in stub.TranslateStream(request, timeout=ANSWER_SECONDS):
                first = first or time.monotonic()
                if message.HasField("result"):
                    translation = message.result.translation
        else:
            reply = await stub.Translate(pb.TranslateRequest(texts=[text], options=options), timeout=ANSWER_SECONDS)
            translation = reply.translations[0]
    except grpc.aio.AioRpcError as error:
        now = time.monotonic()
        return Call(index, intended, sent, now, now, error=error.code().name)
    done = time.monotonic()
    return Call(
        sentence=index,
        intended=intended,
        sent=sent,
        first=first or done,
        done=done,
        source_tokens=translation.source_tokens,
        target_tokens=translation.target_tokens,
        text=translation.hypotheses[0].text,
    )


@contextmanager
def _clocks(load: Load) -> Iterator[None]:
    wall, cpu = time.monotonic(), time.process_time()
    yield
    load.client_wall, load.client_cpu = time.monotonic() - wall, time.process_time() - cpu
