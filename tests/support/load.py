"""A load of many clients that cancel or limit a third of their calls at random, and a report of the results."""

from __future__ import annotations

import asyncio
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

from dragoman_service.client.client import AsyncTranslationClient
from dragoman_service.client.errors import DeadlinePassed, ServerOverloaded, TranslationError
from dragoman_service.client.values import Options, Sampling

SENTENCES = (
    "Good morning.",
    "How are you?",
    "The cat is sleeping on the table. It does not want to be disturbed.",
    "I would like to buy a ticket to Berlin, please.",
    "A man in a red shirt is reading a book by the river, while his dog is running over the green hills behind him.",
    "What time is it?\nIt is half past nine.",
    "Where is the nearest station? I have been looking for it all day long, but nobody could tell me where it is.",
    "😀 Ünïcödé — 日本語, and a very-long-word: " + "x" * 200,
)
"""Texts to translate."""
ANSWER_SECONDS = 120
"""Seconds after which a call without an answer counts as hanging."""
MAX_LENGTH = 40
"""Maximum number of target tokens of a sentence; a model of random weights would reach its own limit."""
SAMPLE_SECONDS = 1.0
SETTLED_BYTES = 16 * 2**20
"""Growth of memory from the second to the last quarter of a run that counts as noise."""


@dataclass
class LoadReport:
    """The results of a run."""

    seconds: float
    outcomes: Counter[str] = field(default_factory=Counter)
    """Number of calls by outcome."""
    texts: int = 0
    """Number of translated texts."""
    problems: list[str] = field(default_factory=list)
    """Calls with neither an answer nor an expected status."""
    memory: list[float] = field(default_factory=list)
    """Resident bytes of the server over time."""
    slots_used: float = -1.0
    """After the run."""
    calls_running: float = -1.0
    """After the run."""

    @property
    def memory_growth(self) -> float:
        """Bytes by which the last quarter of the run exceeds the second."""
        quarter = max(1, len(self.memory) // 4)
        return max(self.memory[-quarter:]) - max(self.memory[quarter : 2 * quarter] or self.memory)

    def __str__(self) -> str:
        ended = ", ".join(f"{count} {name}" for name, count in sorted(self.outcomes.items()))
        rate = self.texts / self.seconds
        return "\n".join(
            [
                f"calls     {sum(self.outcomes.values())} in {self.seconds:.0f} s: {ended}",
                f"texts     {self.texts} translated, {rate:.1f} a second",
                f"memory    {self.memory[-1] / 2**20:.0f} MiB, grew by {self.memory_growth / 2**20:.1f} MiB",
                f"slots     {self.slots_used:.0f} used afterwards, {self.calls_running:.0f} calls running",
                f"problems  {len(self.problems)}",
                *self.problems[:10],
            ]
        )


async def run_load(address: str, metrics_url: str, texts: Sequence[str], *, clients: int, seconds: float) -> LoadReport:
    """Load a server. Returns once every call has ended and the engine is idle, or after ten seconds."""
    report = LoadReport(seconds)
    end = time.monotonic() + seconds
    watcher = asyncio.create_task(_watch_memory(metrics_url, report))
    await asyncio.gather(*(_client(address, texts, random.Random(number), end, report) for number in range(clients)))
    watcher.cancel()
    for _ in range(100):
        metrics = await asyncio.to_thread(read_metrics, metrics_url)
        report.slots_used = metrics["dragoman_slots_used"] + metrics["dragoman_queue_depth"]
        report.calls_running = metrics["dragoman_requests_running"]
        if report.slots_used == report.calls_running == 0:
            break
        await asyncio.sleep(0.1)
    report.memory.append(metrics["process_resident_memory_bytes"])
    return report


def read_metrics(url: str) -> dict[str, float]:
    """The sum over all labels of each metric."""
    with urllib.request.urlopen(url, timeout=60) as page:
        text = page.read().decode()
    sums: Counter[str] = Counter()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return dict(sums)


async def _watch_memory(url: str, report: LoadReport) -> None:
    while True:
        metrics = await asyncio.to_thread(read_metrics, url)
        report.memory.append(metrics["process_resident_memory_bytes"])
        await asyncio.sleep(SAMPLE_SECONDS)


async def _client(address: str, texts: Sequence[str], rng: random.Random, end: float, report: LoadReport) -> None:
    async with AsyncTranslationClient(address) as client:
        while time.monotonic() < end:
            way = rng.choice(["wait", "wait", "wait", "wait", "cancel", "deadline"])
            call = asyncio.create_task(
                _call(client, texts, rng, report, rng.uniform(0, 0.5) if way == "deadline" else None)
            )
            if way == "cancel":
                await asyncio.wait([call], timeout=rng.uniform(0, 0.5))
                call.cancel()
            done, _ = await asyncio.wait([call], timeout=ANSWER_SECONDS)
            if not done:
                report.problems.append(f"no answer within {ANSWER_SECONDS} s")
                call.cancel()
            elif call.cancelled():
                report.outcomes["cancelled"] += 1
            else:
                _account(call.exception(), way, report)


def _account(error: BaseException | None, way: str, report: LoadReport) -> None:
    if error is None:
        report.outcomes["answered"] += 1
    elif isinstance(error, DeadlinePassed) and way == "deadline":
        report.outcomes["past their deadline"] += 1
    elif isinstance(error, ServerOverloaded):
        report.outcomes["refused by a full server"] += 1
    else:
        report.outcomes["failed"] += 1
        code = error.code.name if isinstance(error, TranslationError) else type(error).__name__
        report.problems.append(f"{way}: {code}: {error}")


async def _call(
    client: AsyncTranslationClient,
    texts: Sequence[str],
    rng: random.Random,
    report: LoadReport,
    deadline: float | None,
) -> None:
    options = rng.choice(
        [
            Options(max_length=MAX_LENGTH),
            Options(max_length=MAX_LENGTH, beam_size=1),
            Options(max_length=MAX_LENGTH, beam_size=2, num_hypotheses=2, repetition_penalty=1.2),
            Options(
                max_length=MAX_LENGTH, sampling=Sampling(seed=rng.randrange(100)), num_hypotheses=rng.randint(1, 3)
            ),
            Options(max_length=MAX_LENGTH // 2, no_repeat_ngram_size=3),
        ]
    )
    chosen = rng.choices(texts, k=rng.randint(1, 6))
    if rng.random() < 0.3:
        text = "\n".join(chosen)
        *chunks, result = [item async for item in client.translate_stream(text, options, deadline=deadline)]
        assert "".join(map(str, chunks)) == getattr(result, "text", None), "the chunks are not the text"
        assert str(result.text).count("\n") == text.count("\n"), "line breaks are lost"
    else:
        results = await client.translate(chosen, options, deadline=deadline)
        assert len(results) == len(chosen), "a text has no translation"
    report.texts += len(chosen)
