"""What `--max-client-rows` costs a client with much work, and gives to one with little beside it.

    python tests/load/bulk.py deploy/models/en-de/1 --rows 64,32,16

For each limit, a server of its own. One client always has eight calls of several texts running; the other sends single
texts at random times. The table has the texts a second of the first, and the latency of the second.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import grpc

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_protos.v1 import translation_pb2_grpc
from support.load import SENTENCES
from support.server_process import server_process
from support.traffic import ALONE

TEXTS = [line for text in SENTENCES for line in text.split("\n") if line]
CALLS = 8
"""Calls of the busy client at a time."""


async def measure(address: str, args: argparse.Namespace) -> tuple[float, list[float]]:
    """Texts a second of the busy client, and the seconds of each call of the other, ascending."""
    done, latencies = 0, list[float]()
    options = pb.DecodingOptions(beam_size=args.beam_size, max_length=args.max_length)
    stop = time.monotonic() + args.seconds
    async with grpc.aio.insecure_channel(address) as one, grpc.aio.insecure_channel(address, options=ALONE) as other:
        busy, small = (translation_pb2_grpc.TranslationStub(channel) for channel in (one, other))

        async def bulk(number: int) -> None:
            nonlocal done
            rng = random.Random(number)
            while time.monotonic() < stop:
                request = pb.TranslateRequest(texts=rng.choices(TEXTS, k=args.texts), options=options)
                await busy.Translate(request, metadata=(("x-client", "busy"),))
                done += args.texts * (time.monotonic() < stop)

        async def call(rng: random.Random) -> None:
            started = time.monotonic()
            request = pb.TranslateRequest(texts=[rng.choice(TEXTS)], options=options)
            await small.Translate(request, metadata=(("x-client", "small"),))
            latencies.append(time.monotonic() - started)

        async def now_and_then() -> None:
            rng, calls = random.Random(0), []
            while time.monotonic() < stop:
                await asyncio.sleep(rng.expovariate(args.rate))
                calls.append(asyncio.create_task(call(rng)))
            await asyncio.gather(*calls)

        await asyncio.gather(now_and_then(), *map(bulk, range(CALLS)))
    return done / args.seconds, sorted(latencies)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a model bundle")
    parser.add_argument("--rows", default="64,32,16", help="limits to compare (default: 64,32,16)")
    parser.add_argument("--seconds", type=float, default=15, help="for each limit (default: 15)")
    parser.add_argument("--rate", type=float, default=4, help="calls a second of the other client (default: 4)")
    parser.add_argument("--texts", type=int, default=8, help="texts of a call of the busy client (default: 8)")
    parser.add_argument("--beam-size", type=int, default=1, help="default: 1")
    parser.add_argument("--max-length", type=int, default=60, help="most tokens of a sentence (default: 60)")
    args = parser.parse_args()
    print("| --max-client-rows | busy client, texts/s | small client, p50 ms | p95 ms |\n|---|---|---|---|")
    for rows in args.rows.split(","):
        with server_process([args.model], "--client-header", "x-client", "--max-client-rows", rows) as server:
            texts, latencies = asyncio.run(measure(server.address, args))
        p50, p95 = (1000 * latencies[len(latencies) * percent // 100] for percent in (50, 95))
        print(f"| {rows} | {texts:.1f} | {p50:.0f} | {p95:.0f} |", flush=True)


if __name__ == "__main__":
    main()
