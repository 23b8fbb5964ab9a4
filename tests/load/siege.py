"""Attack a server of our own for as long as you like, beside honest callers at a part of what it can do.

    python tests/load/siege.py deploy/models/en-de/1 --minutes 30
    python tests/load/siege.py deploy/models/en-de/1 --minutes 30 --http

First it measures what the server can do, then the latency of honest callers at half of that without an attack. Then one
attack after the other runs, in a process of its own, beside the same honest callers. The table has a line for each.
Ends with status 1 if an honest call failed, if their 99th percentile was above three times its calm value and above
250 ms, if a health page took more than half a second, if the server ended, or if its memory exceeded what its settings
allow.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import multiprocessing
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

sys.path.insert(0, str(Path(__file__).parents[1]))

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from dragoman_service.server.settings import ServerSettings
from support.attackers import ATTACKS
from support.http_attackers import HTTP_ATTACKS
from support.http_calls import posted
from support.load import SENTENCES
from support.memory_bound import allowed_mib
from support.server_process import ServerProcess, page, server_process

TEXTS = [line for text in SENTENCES for line in text.split("\n") if line]
HONEST = [f"honest {number}" for number in range(8)]
ATTACKER = "attacker"
PAGE_SECONDS = 0.5
LEAST_P99 = 0.25
CAPACITY_CLIENTS = 16
CALL_SECONDS = 30
BUFFERS_MIB = 0.4
"""Of a connection of HTTP: what the system, asyncio and the parser keep for it."""


@dataclass
class Phase:
    """What honest callers saw during one attack."""

    name: str
    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    slowest_page: float = 0.0
    memory_mib: float = 0.0

    def quantile(self, percent: int) -> float:
        """Seconds."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)] if ordered else float("nan")


class Caller(Protocol):
    """Sends calls to a server."""

    async def translate(self, text: str, client: str) -> str:
        """Translate a text. Returns an error; empty if there is none."""
        ...


@asynccontextmanager
async def grpc_caller(server: ServerProcess) -> AsyncIterator[Caller]:
    """Calls of gRPC, over one connection."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = translation_pb2_grpc.TranslationStub(channel)

        class Calls:
            async def translate(self, text: str, client: str) -> str:
                request, metadata = pb.TranslateRequest(texts=[text]), (("x-client", client),)
                try:
                    await stub.Translate(request, metadata=metadata, timeout=CALL_SECONDS)
                except grpc.aio.AioRpcError as error:
                    return f"{error.code().name}: {error.details()}"
                return ""

        yield Calls()


@asynccontextmanager
async def http_caller(server: ServerProcess) -> AsyncIterator[Caller]:
    """Requests over HTTP, each with a connection of its own."""
    host, _, port = address_of(server, http=True).rpartition(":")

    class Calls:
        async def translate(self, text: str, client: str) -> str:
            sent = posted("/v1/translate", {"texts": [text]}, f"x-client: {client}", "connection: close")
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    reader, writer = await asyncio.open_connection(host, int(port))
                    try:
                        writer.write(sent)
                        answer = await reader.read()
                    finally:
                        writer.transport.abort()
            except (OSError, TimeoutError) as error:
                return repr(error)
            return "" if answer.startswith(b"HTTP/1.1 200") else f"not answered: {answer[:80]!r}"

    yield Calls()


def address_of(server: ServerProcess, *, http: bool) -> str:
    """Host and port."""
    return server.url.partition("://")[2] if http else server.address


async def capacity(caller: AbstractAsyncContextManager[Caller], seconds: float) -> float:
    """Calls a second that the server answers to clients that always have one running."""
    done = itertools.count()
    async with caller as calls:

        async def client(number: int) -> None:
            for text in itertools.cycle(TEXTS[number % len(TEXTS) :] + TEXTS):
                error = await calls.translate(text, HONEST[number % len(HONEST)])
                assert not error, error
                next(done)

        tasks = [asyncio.create_task(client(number)) for number in range(CAPACITY_CLIENTS)]
        await asyncio.sleep(seconds / 4)
        before = next(done)
        await asyncio.sleep(seconds)
        rate = (next(done) - before - 1) / seconds
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return rate


async def honest(caller: AbstractAsyncContextManager[Caller], rate: float, seconds: float, phase: Phase) -> None:
    """Send calls at random times, `rate` a second, and wait for all answers."""
    rng = random.Random(phase.name)
    async with caller as calls:

        async def call(intended: float) -> None:
            if error := await calls.translate(rng.choice(TEXTS), rng.choice(HONEST)):
                phase.errors[error[:100]] += 1
            phase.latencies.append(time.monotonic() - intended)

        tasks = []
        at = time.monotonic()
        end = at + seconds
        while (at := at + rng.expovariate(rate)) < end:
            await asyncio.sleep(max(0.0, at - time.monotonic()))
            tasks.append(asyncio.create_task(call(at)))
        await asyncio.gather(*tasks)


def watch(server: ServerProcess, phase: Phase, stop: threading.Event) -> None:
    """Ask for the health pages, and look at the memory."""
    pages = server.metrics_url.removesuffix("/metrics")
    status = Path(f"/proc/{server.process.pid}/status")
    while not stop.wait(0.2):
        for name in ("/live", "/ready"):
            started = time.monotonic()
            code, _ = page(pages + name)
            phase.slowest_page = max(phase.slowest_page, time.monotonic() - started)
            if code != 200:
                phase.errors[f"{name} {code}"] += 1
        used = next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        phase.memory_mib = max(phase.memory_mib, used / 1024)


def run_phase(
    server: ServerProcess, name: str, attack: Callable[..., None] | None, rate: float, seconds: float, *, http: bool
) -> Phase:
    """Honest callers for some seconds, beside an attack or none."""
    phase, stop = Phase(name), threading.Event()
    watcher = threading.Thread(target=watch, args=(server, phase, stop))
    attacker = None
    if attack is not None:
        attacker = multiprocessing.get_context("spawn").Process(
            target=attack, args=(address_of(server, http=http), ATTACKER)
        )
        attacker.start()
        time.sleep(2)
    watcher.start()
    asyncio.run(honest((http_caller if http else grpc_caller)(server), rate, seconds, phase))
    stop.set()
    watcher.join()
    if attacker is not None:
        attacker.kill()
        attacker.join()
    return phase


def problems(server: ServerProcess, calm: Phase, phases: list[Phase], most_mib: float) -> list[str]:
    """Everything that must not be."""
    found = [f"the server ended with status {server.process.returncode}"] if server.process.poll() is not None else []
    bound = max(LEAST_P99, 3 * calm.quantile(99))
    for phase in phases:
        if phase.errors:
            found.append(f"{phase.name}: {dict(phase.errors)}")
        if phase.quantile(99) > bound:
            found.append(f"{phase.name}: p99 {phase.quantile(99):.3f} s, allowed {bound:.3f}")
        if phase.slowest_page > PAGE_SECONDS:
            found.append(f"{phase.name}: a health page took {phase.slowest_page:.2f} s")
        if phase.memory_mib > most_mib:
            found.append(f"{phase.name}: {phase.memory_mib:.0f} MiB of {most_mib:.0f}")
    return found


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a model bundle")
    parser.add_argument("--minutes", type=float, default=30, help="how long (default: 30)")
    parser.add_argument("--load", type=float, default=0.5, help="part of the capacity to ask for (default: 0.5)")
    parser.add_argument("--http", action="store_true", help="over HTTP instead of gRPC")
    parser.add_argument("--attacks", nargs="*", help="default: all of them")
    args = parser.parse_args()
    attacks = HTTP_ATTACKS if args.http else ATTACKS
    chosen = attacks if args.attacks is None else args.attacks
    port = ("--http-port", "0") if args.http else ()
    with server_process([args.model], "--client-header", "x-client", *port) as server:
        most_mib = allowed_mib(server) + (BUFFERS_MIB * ServerSettings().max_connections if args.http else 0)
        rate = args.load * asyncio.run(capacity((http_caller if args.http else grpc_caller)(server), 10))
        seconds = 60 * args.minutes / (1 + len(chosen))
        print(f"honest callers: {rate:.1f} calls a second, {args.load:.0%} of the capacity")
        calm = run_phase(server, "calm", None, rate, seconds, http=args.http)
        phases = [calm]
        for name in ["", *chosen]:
            phase = run_phase(server, name, attacks[name], rate, seconds, http=args.http) if name else calm
            phases += [phase] if name else []
            print(
                f"{phase.name:22} {len(phase.latencies):6} calls  p50 {1000 * phase.quantile(50):5.0f} ms  "
                f"p99 {1000 * phase.quantile(99):5.0f} ms  failed {phase.errors.total():3}  "
                f"pages {1000 * phase.slowest_page:4.0f} ms  memory {phase.memory_mib:4.0f} MiB",
                flush=True,
            )
        found = problems(server, calm, phases, most_mib) + server.errors[:5]
        print(f"memory allowed {most_mib:.0f} MiB")
        print("\n".join(["problems:", *found]) if found else "no problems")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
