"""The processor time of a call around the model: gRPC, text, messages and the engine's Python.

    python bench/overhead.py --data DATA

`dragoman serve` runs with a model that costs no processor time (`bench/peers/null_server.py`). A load generator in a
separate process keeps a fixed number of calls of one sentence each running. Servers take turns, one round each at a
time. The table has medians of the rounds: milliseconds of the server's processor time per sentence.

With `--fronts 0,1,2,4`, servers with so many front processes (`dragoman serve --fronts`) take turns. The table has the
processor time of the engine process and of the fronts, and that of one server's processes together.

With `--old PYTHON`, the interpreter of an environment with another version of Dragoman, its server is measured in turns
with this one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.calls import Search
from bench.measure.common import ROOT, print_header, print_table, progress
from bench.measure.load import LoadGenerator, Target, load_generator
from bench.measure.servers import ServerProcess, server_process
from bench.peers.sentences import add_sentence_options, data_folder, read_sentences
from dragoman_service.bundle.tokenizer import Tokenizer

BUNDLE = Path("deploy/models/en-de/1")
MAX_TOKENS = 60
"""Most source tokens of a sentence."""
MAX_LENGTH, LENGTH_PENALTY = 119, 0.6
CASES = ((1, 1), (1, 8), (1, 64), (4, 64))
FRONT_CASES = ((1, 64), (1, 256), (4, 64), (4, 256))
"""Beam size and number of clients."""
FRONT_CONNECTIONS = 32
"""The system gives connections to fronts by chance: of few, some fronts would get none."""


def start(stack: ExitStack, python: Path, options: Sequence[str]) -> ServerProcess:
    """Start the server that an interpreter has installed."""
    script, bundle = ROOT / "bench" / "peers" / "null_server.py", ROOT / BUNDLE
    command = [str(python), str(script), "serve", str(bundle), "--port", "0", "--metrics-port", "0", *options]
    return stack.enter_context(server_process(command))


def milliseconds(
    server: ServerProcess, generator: LoadGenerator, sentences: Sequence[str], beam: int, clients: int, count: int
) -> tuple[float, float]:
    """Processor time of the server per sentence in milliseconds, and sentences per second."""
    target = Target(server.address, Search(beam, MAX_LENGTH, LENGTH_PENALTY))
    before = server.cpu_seconds()
    load = generator.closed_loop(target, sentences, clients, count)
    if load.errors:
        raise SystemExit(f"calls failed: {dict(load.errors)}")
    return 1000 * (server.cpu_seconds() - before) / count, count / load.client_wall


def by_process(
    server: ServerProcess, generator: LoadGenerator, sentences: Sequence[str], beam: int, clients: int, count: int
) -> tuple[float, float, float, float]:
    """Milliseconds per sentence of the engine, of the fronts and of all processes, and sentences per second.

    Of a server that is one process, the first two are 0.
    """
    target = Target(server.address, Search(beam, MAX_LENGTH, LENGTH_PENALTY), connections=FRONT_CONNECTIONS)
    before = server.cpu_seconds_by_process()
    load = generator.closed_loop(target, sentences, clients, count)
    if load.errors:
        raise SystemExit(f"calls failed: {dict(load.errors)}")
    after = server.cpu_seconds_by_process()
    used = [1000 * (late - early) / count for early, late in zip(before, after, strict=True)]
    return sum(used[1:2]), sum(used[2:]), sum(used), count / load.client_wall


def compare_fronts(arguments: argparse.Namespace, sentences: Sequence[str], options: Sequence[str]) -> None:
    """Measure servers with different numbers of fronts, and print the table."""
    numbers = [int(number) for number in arguments.fronts.split(",")]
    lines: list[tuple[object, ...]] = []
    with ExitStack() as stack:
        generator = stack.enter_context(load_generator())
        servers = [start(stack, Path(sys.executable), [*options, "--fronts", str(number)]) for number in numbers]
        for beam, clients in FRONT_CASES:
            rounds: list[list[tuple[float, ...]]] = [[] for _ in servers]
            for index in range(arguments.repeats + 1):
                progress(f"beam {beam}, {clients} clients, round {index} of {arguments.repeats}")
                for server, taken in zip(servers, rounds, strict=True):
                    one = by_process(server, generator, sentences, beam, clients, arguments.calls)
                    if index:  # the first round warms up
                        taken.append(one)
            for number, taken in zip(numbers, rounds, strict=True):
                *used, rate = (statistics.median(values) for values in zip(*taken, strict=True))
                lines.append((beam, clients, number, *(f"{each:.2f}" for each in used), f"{rate:.0f}"))
    print_table(("beam", "clients", "fronts", "engine ms", "fronts ms", "all ms", "sentences/s"), lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64, help="rows of the batch (default: 64)")
    parser.add_argument("--lanes", type=int, default=2, help="lanes (default: 2)")
    parser.add_argument("--calls", type=int, default=1500, help="calls of a round (default: 1500)")
    parser.add_argument("--repeats", type=int, default=5, help="rounds (default: 5)")
    parser.add_argument("--serve-options", default="", help="further options of `dragoman serve`")
    parser.add_argument("--fronts", metavar="N,N,...", help="compare servers with these numbers of front processes")
    parser.add_argument("--old", type=Path, metavar="PYTHON", help="interpreter of the version to compare with")
    add_sentence_options(parser, 192)
    arguments = parser.parse_args()
    tokenizer = Tokenizer(ROOT / BUNDLE / "tokenizer.model")
    sentences = read_sentences(data_folder(arguments.data), tokenizer, arguments.sentences, arguments.seed, MAX_TOKENS)
    names = ("rows", "lanes", "calls", "repeats", "serve_options", "fronts", "old")
    print_header("Processor time around the model", {name: getattr(arguments, name) for name in names})
    options = ["--max-rows", str(arguments.rows), "--lanes", str(arguments.lanes)]
    if arguments.fronts:
        compare_fronts(arguments, sentences, [*options, *arguments.serve_options.split()])
        return
    lines: list[tuple[object, ...]] = []
    with ExitStack() as stack:
        generator = stack.enter_context(load_generator())
        servers = [start(stack, Path(sys.executable), [*options, *arguments.serve_options.split()])]
        if arguments.old:
            servers.append(start(stack, arguments.old.absolute(), options))
        for beam, clients in CASES:
            rounds: list[list[tuple[float, float]]] = [[] for _ in servers]
            count = max(200, arguments.calls * min(clients, 16) // 16)
            for index in range(arguments.repeats + 1):
                progress(f"beam {beam}, {clients} clients, round {index} of {arguments.repeats}")
                for server, taken in zip(servers, rounds, strict=True):
                    one = milliseconds(server, generator, sentences, beam, clients, count)
                    if index:  # the first round warms up
                        taken.append(one)
            cells: list[object] = []
            for taken in rounds:
                cells += [f"{statistics.median(cost for cost, _ in taken):.2f}"]
                cells += [f"{statistics.median(rate for _, rate in taken):.0f}"]
            if arguments.old:
                ratios = [new / old for (new, _), (old, _) in zip(*rounds, strict=True)]
                cells.append(f"{statistics.median(ratios):.2f}")
            lines.append((beam, clients, *cells))
    columns = ["beam", "clients", "ms", "sentences/s"]
    print_table((*columns, *(("old ms", "old sentences/s", "new / old") if arguments.old else ())), lines)


if __name__ == "__main__":
    main()
