"""A steady load for a long time, with cancelled calls, bad input and reloads, and a report of the results."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.client.client import AsyncTranslationClient
from dragoman_service.client.errors import DeadlinePassed, ServerOverloaded, TranslationError
from dragoman_service.client.values import Options
from support.load import read_metrics

ANSWER_SECONDS = 120
"""Seconds after which a call without an answer counts as lost."""
OPTIONS = Options(max_length=60)
_TRANSLATE = "/dragoman.v1.Translation/Translate"
_GOOD = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND

BAD_INPUT: Mapping[str, bytes] = {
    name: request.SerializeToString()
    for name, request in {
        "no texts": pb.TranslateRequest(),
        "too many texts": pb.TranslateRequest(texts=["a"] * 1025),
        "a text too long": pb.TranslateRequest(texts=["a" * 100_001]),
        "beam of 0": pb.TranslateRequest(texts=["a"], options=pb.DecodingOptions(beam_size=0)),
        "beam of 1000": pb.TranslateRequest(texts=["a"], options=pb.DecodingOptions(beam_size=1000)),
        "NaN": pb.TranslateRequest(texts=["a"], options=pb.DecodingOptions(length_penalty=float("nan"))),
        "top_k of 0": pb.TranslateRequest(texts=["a"], options=pb.DecodingOptions(sampling=pb.Sampling(top_k=0))),
        "prefixes too few": pb.TranslateRequest(texts=["a", "b"], target_prefixes=["x"]),
        "unknown model": pb.TranslateRequest(texts=["a"], model="nobody"),
        "unknown version": pb.TranslateRequest(texts=["a"], model="@9"),
        "unknown language": pb.TranslateRequest(texts=["a"], target_language="xx"),
        "unknown priority": pb.TranslateRequest(texts=["a"], priority=7),  # type: ignore[arg-type]
    }.items()
}


@dataclass
class Sample:
    """The measurements of one second."""

    at: float
    """Seconds from the beginning."""
    memory: float
    """Resident bytes of the server."""
    texts: int
    """Number of texts translated in this period."""
    latencies: list[float]
    """Seconds of each call answered in this period."""


@dataclass
class SoakReport:
    """The results of a run."""

    capacity: float = 0.0
    """Maximum throughput of the server in texts per second."""
    seconds: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)
    texts: int = 0
    reloads: list[float] = field(default_factory=list)
    """Times of reloads in seconds from the beginning."""
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    slots_used: float = -1.0
    """After the run."""
    calls_running: float = -1.0
    """After the run."""

    @property
    def growth(self) -> float:
        """Growth of memory in bytes per hour, by least squares over all samples but the first quarter."""
        points = [(sample.at, sample.memory) for sample in self.samples[len(self.samples) // 4 :]]
        mean_x, mean_y = (sum(values) / len(points) for values in zip(*points, strict=True))
        over = sum((x - mean_x) * (y - mean_y) for x, y in points)
        return 3600 * over / max(1e-9, sum((x - mean_x) ** 2 for x, _ in points))


class Soak:
    """Loads a server with a fraction of its capacity, in open loop: calls do not wait for earlier ones."""

    def __init__(self, address: str, metrics_url: str, expected: Mapping[str, str], rng: random.Random) -> None:
        """`expected` maps texts to their translations with `OPTIONS`."""
        self.report = SoakReport()
        self._address = address
        self._metrics_url = metrics_url
        self._expected = expected
        self._texts = list(expected)
        self._rng = rng
        self._latencies: deque[float] = deque()
        self._running: set[asyncio.Task[None]] = set()

    async def measure_capacity(self, seconds: float, clients: int = 16) -> None:
        """Measure the maximum throughput, in closed loop."""
        end = time.monotonic() + seconds

        async def client() -> None:
            async with AsyncTranslationClient(self._address) as connection:
                while time.monotonic() < end:
                    await self._ask(connection, self._chosen())

        await asyncio.gather(*(client() for _ in range(clients)))
        self.report.capacity = self.report.texts / seconds
        self.report = SoakReport(capacity=self.report.capacity)
        self._latencies.clear()

    async def run(self, seconds: float, load: float, reload: Callable[[], Awaitable[None]], every: float) -> None:
        """Keep `load`, a fraction of the capacity, and `reload` at random times, once in `every` seconds on average."""
        begun = time.monotonic()
        background = [
            asyncio.create_task(self._sample(begun)),
            asyncio.create_task(self._reload(begun, reload, every)),
        ]
        async with AsyncTranslationClient(self._address) as client, grpc.aio.insecure_channel(self._address) as channel:
            raw = channel.unary_unary(_TRANSLATE)
            next_call = begun
            while (now := time.monotonic()) < begun + seconds:
                texts = self._chosen()
                next_call += self._rng.expovariate(1.0) * len(texts) / (load * self.report.capacity)
                self._start(self._one(client, raw, texts))
                await asyncio.sleep(max(0.0, next_call - now))
            if self._running:
                _, late = await asyncio.wait(self._running, timeout=ANSWER_SECONDS)
                self.report.problems += [f"no answer within {ANSWER_SECONDS} s"] * len(late)
        for task in background:
            task.cancel()
        self.report.seconds = time.monotonic() - begun
        await self._look_at_the_end()

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def _chosen(self) -> list[str]:
        return self._rng.choices(self._texts, k=self._rng.choice([1, 1, 1, 1, 2, 4, 8]))

    async def _one(
        self, client: AsyncTranslationClient, raw: Callable[..., Awaitable[bytes]], texts: list[str]
    ) -> None:
        kind = self._rng.choices(["plain", "cancel", "deadline", "bad"], weights=[80, 8, 8, 4])[0]
        if kind == "bad":
            await self._ask_badly(raw)
        elif kind == "cancel":
            call = asyncio.ensure_future(self._ask(client, texts))
            await asyncio.wait([call], timeout=self._rng.uniform(0, 0.3))
            if call.cancel():
                self.report.outcomes["cancelled"] += 1
        else:
            await self._ask(client, texts, self._rng.uniform(0, 0.4) if kind == "deadline" else None)

    async def _ask(self, client: AsyncTranslationClient, texts: list[str], deadline: float | None = None) -> None:
        begun = time.monotonic()
        try:
            if self._rng.random() < 0.2:
                items = [item async for item in client.translate_stream("\n".join(texts), OPTIONS, deadline=deadline)]
                found = str(getattr(items[-1], "text", "")).split("\n")
            else:
                found = [made.text for made in await client.translate(texts, OPTIONS, deadline=deadline)]
        except ServerOverloaded:
            self.report.outcomes["refused: full"] += 1
        except DeadlinePassed as error:
            self.report.outcomes["past their deadline"] += 1
            if deadline is None:
                self.report.problems.append(f"without a deadline: {error}")
        except TranslationError as error:
            self.report.outcomes["failed"] += 1
            self.report.problems.append(f"{error.code.name}: {error}")
        else:
            if found != [self._expected[text] for text in texts]:
                self.report.problems.append(f"{texts} became {found}")
            self.report.outcomes["answered"] += 1
            self.report.texts += len(texts)
            self._latencies.append(time.monotonic() - begun)

    async def _ask_badly(self, raw: Callable[..., Awaitable[bytes]]) -> None:
        name = self._rng.choice(list(BAD_INPUT))
        try:
            await raw(BAD_INPUT[name])
        except grpc.aio.AioRpcError as error:
            if error.code() in _GOOD:
                self.report.outcomes["refused: bad input"] += 1
                return
            self.report.problems.append(f"{name}: {error.code().name}: {error.details()}")
        else:
            self.report.problems.append(f"{name}: was answered")

    async def _reload(self, begun: float, reload: Callable[[], Awaitable[None]], every: float) -> None:
        while True:
            await asyncio.sleep(self._rng.uniform(0.5, 1.5) * every)
            try:
                await reload()
                self.report.reloads.append(time.monotonic() - begun)
            except Exception as error:
                self.report.problems.append(f"a reload failed: {error!r}")

    async def _sample(self, begun: float) -> None:
        texts = self.report.texts
        while True:
            await asyncio.sleep(1)
            metrics = await asyncio.to_thread(read_metrics, self._metrics_url)
            latencies = [self._latencies.popleft() for _ in range(len(self._latencies))]
            memory = metrics["process_resident_memory_bytes"]
            sample = Sample(time.monotonic() - begun, memory, self.report.texts - texts, latencies)
            self.report.samples.append(sample)
            texts = self.report.texts

    async def _look_at_the_end(self) -> None:
        for _ in range(100):
            metrics = await asyncio.to_thread(read_metrics, self._metrics_url)
            self.report.slots_used = metrics["dragoman_slots_used"] + metrics["dragoman_queue_depth"]
            self.report.calls_running = metrics["dragoman_requests_running"]
            if self.report.slots_used == self.report.calls_running == 0:
                return
            await asyncio.sleep(0.1)
