"""Latency under calls that arrive at random: Dragoman and CTranslate2 behind gRPC with dynamic batching.

    python bench/open_loop.py --data DATA --model bundled --precision int8 --beam-size 4

First the capacity of the CTranslate2 server (ct2_server.py) is measured: closed loops with several settings of batching
and of workers and threads, of which the fastest counts. Then both servers get the same sentences at the same random
times (Poisson), at shares of that capacity. Latency counts from the time at which a call should have been sent, so a
server does not gain by making callers wait. Dragoman is measured with whole replies, as CTranslate2 is, and with
streaming, whose messages cost processor time on both sides. Without streaming, the first text is the whole reply.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.calls import Load, Search, steady_window
from bench.measure.common import base_parser, int_list, percentile, print_header, print_table, progress
from bench.measure.load import LoadGenerator, Target, load_generator, poisson_arrivals
from bench.measure.servers import ct2_command, dragoman_command, server_process
from bench.peers.artifacts import Artifacts, find_artifacts
from bench.peers.sentences import add_sentence_options, data_folder, sentences_for

DRAGOMAN, STREAMED, CT2 = "Dragoman", "Dragoman, streamed", "CTranslate2 server"


@dataclass(frozen=True, slots=True)
class Batching:
    """Settings of the CTranslate2 server."""

    workers: int
    threads: int
    batch_size: int
    wait_ms: float

    def __str__(self) -> str:
        return f"{self.workers}x{self.threads} threads, batches of {self.batch_size}, wait {self.wait_ms:g} ms"

    def options(self) -> list[str]:
        """The arguments of ct2_server.py."""
        pairs = {
            "--workers": self.workers,
            "--threads": self.threads,
            "--batch-size": self.batch_size,
            "--wait-ms": self.wait_ms,
        }
        return [part for name, value in pairs.items() for part in (name, str(value))]


BATCHINGS = tuple(
    Batching(workers, threads, batch_size, wait_ms)
    for workers, threads, batch_size in ((1, 2, 32), (1, 2, 64), (2, 1, 16), (2, 1, 32))
    for wait_ms in (0.0, 5.0)
)


def capacity(generator: LoadGenerator, address: str, search: Search, sentences: Sequence[str], clients: int) -> float:
    """Sentences per second of a server in a closed loop."""
    load = generator.closed_loop(Target(address, search), sentences, clients, clients + len(sentences))
    if load.errors:
        raise SystemExit(f"calls failed: {dict(load.errors)}")
    seconds, calls = steady_window(load.calls, clients, len(sentences))
    return len(calls) / seconds


def best_batching(
    generator: LoadGenerator,
    artifacts: Artifacts,
    search: Search,
    sentences: Sequence[str],
    clients: int,
    batchings: Sequence[Batching],
) -> list[tuple[float, Batching]]:
    """The capacity of the CTranslate2 server with each setting, the better of two closed loops; best first."""
    found: list[tuple[float, Batching]] = []
    for batching in batchings:
        with server_process(ct2_server(artifacts, batching)) as server:
            loops = [capacity(generator, server.address, search, sentences, clients) for _ in range(2)]
        progress(f"{batching}: {max(loops):.1f} sentences/s")
        found.append((max(loops), batching))
    return sorted(found, key=lambda pair: -pair[0])


def ct2_server(artifacts: Artifacts, batching: Batching) -> list[str]:
    """Command line of the CTranslate2 server."""
    options = [*batching.options(), "--compute-type", artifacts.compute_type]
    return ct2_command(artifacts.ct2, artifacts.tokenizer, *options)


def summary(loads: Sequence[Load]) -> list[object]:
    """Table cells of one competitor: medians of the rounds' percentiles, and the errors of all rounds."""

    def median(figure: Callable[[Load], float]) -> float:
        return statistics.median(map(figure, loads))

    def latency(percent: float) -> float:
        return 1000 * median(lambda load: percentile([c.done - c.intended for c in load.answered], percent))

    def first(percent: float) -> float:
        return 1000 * median(lambda load: percentile([c.first - c.intended for c in load.answered], percent))

    errors = sum((load.errors for load in loads), Counter[str]())
    return [
        sum(len(load.calls) for load in loads),
        latency(50),
        latency(95),
        latency(99),
        first(50),
        first(95),
        first(99),
        ", ".join(f"{count} {name}" for name, count in sorted(errors.items())) or "none",
        1000 * median(lambda load: load.lag),
        median(lambda load: load.client_cpu / load.client_wall),
    ]


COLUMNS = (
    "load", "arrivals/s", "server", "calls", "p50 ms", "p95 ms", "p99 ms", "first p50 ms", "first p95 ms",
    "first p99 ms", "errors", "lag p99 ms", "client cores",
)  # fmt: skip


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__, repeats=3)
    add_sentence_options(parser, count=192)
    parser.add_argument("--beam-size", type=int, default=4, help="1 is greedy (default: 4)")
    parser.add_argument("--length-penalty", type=float, default=0.6, help="alpha, for both (default: 0.6)")
    parser.add_argument("--max-length", type=int, help="target tokens at most (default: the model's limit)")
    parser.add_argument(
        "--loads", type=int_list, default=[50, 80, 95], help="percent of the capacity (default: 50,80,95)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="arrivals of one round (default: 10)")
    parser.add_argument("--clients", type=int, default=64, help="concurrent calls for the capacity (default: 64)")
    parser.add_argument("--serve-options", default="", help='more options of `dragoman serve`, such as "--max-rows 64"')
    parser.add_argument("--quick", action="store_true", help="one short round, as a smoke test")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    batchings: Sequence[Batching] = BATCHINGS
    if args.quick:
        args.sentences, args.repeats, args.loads, args.seconds, args.clients = 32, 1, [50], 3.0, 16
        batchings = BATCHINGS[:1]
    data_folder(args.data)  # fails before the models are made, which takes long
    artifacts = find_artifacts(args.model, args.precision, args.cache)
    sentences = sentences_for(args, artifacts)
    search = Search(args.beam_size, args.max_length or artifacts.max_target_tokens, args.length_penalty)
    settings = {
        "model": args.model,
        "precision": args.precision,
        "sentences": len(sentences),
        "seed": args.seed,
        "beam": search.beam_size,
        "longest translation": search.max_length,
        "length penalty": search.length_penalty,
        "dragoman serve": args.serve_options or "default options",
        "rounds": f"{args.repeats} of {args.seconds:g} s",
    }
    print_header("Latency under random arrivals", settings)
    with load_generator() as generator:
        run(args, generator, artifacts, search, sentences, batchings)
    return 0


def run(
    args: argparse.Namespace,
    generator: LoadGenerator,
    artifacts: Artifacts,
    search: Search,
    sentences: Sequence[str],
    batchings: Sequence[Batching],
) -> None:
    """Measure, and print the tables."""
    found = best_batching(generator, artifacts, search, sentences, args.clients, batchings)
    best, batching = found[0]
    print_table([f"CTranslate2 server, {args.clients} clients", "sentences/s"], [[str(b), rate] for rate, b in found])
    command = dragoman_command(artifacts.bundle, *args.serve_options.split())
    with server_process(command) as dragoman, server_process(ct2_server(artifacts, batching)) as ct2:
        targets = {
            DRAGOMAN: Target(dragoman.address, search),
            STREAMED: Target(dragoman.address, search, stream=True),
            CT2: Target(ct2.address, search),
        }
        own = {
            name: capacity(generator, target.address, search, sentences, args.clients)
            for name, target in targets.items()
            if not target.stream
        }
        print(f"Closed loop of {args.clients} clients: {own[DRAGOMAN]:.1f} sentences/s from Dragoman, ", end="")
        print(f"{own[CT2]:.1f} from the CTranslate2 server ({batching}), whose capacity is taken as {best:.1f}.\n")
        table: list[list[object]] = []
        for percent in args.loads:
            rate = best * percent / 100
            loads: dict[str, list[Load]] = {name: [] for name in targets}
            for round_number in range(args.repeats):
                arrivals = poisson_arrivals(rate, args.seconds, args.seed * 1000 + round_number)
                for name, target in targets.items():
                    progress(f"{percent} %: {name}, round {round_number + 1}")
                    loads[name].append(generator.open_loop(target, sentences, arrivals))
            table += [[f"{percent} %", rate, name, *summary(loads[name])] for name in targets]
    print_table(COLUMNS, table)


if __name__ == "__main__":
    sys.exit(main())
