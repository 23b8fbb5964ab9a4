"""Start-up time, memory and disk space of servers.

    python bench/resources.py --data DATA --models bundled,base --precisions fp32,int8

Start-up: from the start of the process to the first translation, in turns; files are in the system's cache. Memory:
resident set at rest, after the first translation, and its maximum under `--clients` concurrent calls. `CTranslate2`
without a server is a Python process with the library and SentencePiece, which translates one sentence, then all of them
in batches.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.calls import Search
from bench.measure.common import DEFAULT_CACHE, name_list, print_header, print_table, progress
from bench.measure.load import LoadGenerator, Target, load_generator
from bench.measure.servers import ct2_command, dragoman_command, peak_memory, resident_bytes, server_process
from bench.peers.artifacts import Artifacts, find_artifacts
from bench.peers.sentences import add_sentence_options, data_folder, sentences_for
from dragoman_service.errors import InvalidInput

MIB = 2**20
LENGTH_PENALTY = 0.6
DRAGOMAN, CT2_SERVER, CT2_DIRECT = "Dragoman", "CTranslate2 server", "CTranslate2"


@dataclass(slots=True)
class Resources:
    """The resources that one competitor took, round by round."""

    ready: list[float] = field(default_factory=list)
    """Seconds from the start of the process until it accepted calls."""
    first: list[float] = field(default_factory=list)
    """Seconds from the start of the process to the first translation."""
    at_rest: list[float] = field(default_factory=list)
    """Resident MiB after the first translation."""
    loaded: list[float] = field(default_factory=list)
    """Most resident MiB under load."""


@dataclass(frozen=True, slots=True)
class Task:
    """The load of a server."""

    generator: LoadGenerator
    search: Search
    sentences: Sequence[str]
    clients: int


def try_server(command: Sequence[str], task: Task, taken: Resources) -> None:
    """Start a server, send one call, then the load, and stop it."""
    with server_process(command) as server:
        taken.ready.append(time.monotonic() - server.started)
        target = Target(server.address, task.search)
        # The monotonic clock is the same in all processes of a machine, so times of the client can be compared.
        load = task.generator.closed_loop(target, task.sentences[:1], 1, 1)
        taken.first.append(load.calls[0].done - server.started)
        taken.at_rest.append(resident_bytes(server.process.pid) / MIB)
        with peak_memory(server.process.pid) as peak:
            load = task.generator.closed_loop(target, task.sentences, task.clients, task.clients + len(task.sentences))
        taken.loaded.append(peak[0] / MIB)
        if load.errors:
            raise SystemExit(f"calls failed: {dict(load.errors)}")


def try_direct(artifacts: Artifacts, task: Task, taken: Resources) -> None:
    """The same without a server: run ct2_once.py, which prints the time of its first translation and its memory."""
    options = {
        "--compute-type": artifacts.compute_type,
        "--beam-size": task.search.beam_size,
        "--max-length": task.search.max_length,
        "--length-penalty": task.search.length_penalty,
        "--batch-size": task.clients,
    }
    words = [str(word) for pair in options.items() for word in pair]
    script = Path(__file__).parent / "peers" / "ct2_once.py"
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, str(script), str(artifacts.ct2), str(artifacts.tokenizer), *words],
        input="\n".join(task.sentences),
        capture_output=True,
        text=True,
        check=True,
    )
    ready, first, at_rest, loaded = map(float, process.stdout.split())
    taken.ready.append(ready - started)
    taken.first.append(first - started)
    taken.at_rest.append(at_rest / MIB)
    taken.loaded.append(loaded / MIB)


def measure(artifacts: Artifacts, task: Task, repeats: int, serve_options: Sequence[str]) -> dict[str, Resources]:
    """Measure all competitors in turns. The first round warms up the system's cache and does not count."""
    dragoman = dragoman_command(artifacts.bundle, *serve_options)
    ct2 = ct2_command(artifacts.ct2, artifacts.tokenizer, "--compute-type", artifacts.compute_type)
    tries: dict[str, Callable[[Resources], None]] = {
        DRAGOMAN: lambda taken: try_server(dragoman, task, taken),
        CT2_SERVER: lambda taken: try_server(ct2, task, taken),
        CT2_DIRECT: lambda taken: try_direct(artifacts, task, taken),
    }
    taken = {name: Resources() for name in tries}
    for round_number in range(repeats + 1):
        for name, attempt in tries.items():
            progress(f"{name}, round {round_number}")
            attempt(taken[name] if round_number else Resources())
    return taken


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def rows(model: str, precision: str, artifacts: Artifacts, taken: dict[str, Resources]) -> list[list[object]]:
    """Table rows of a model: medians of the rounds."""
    # The bundle includes the tokenizer, so it is added to CTranslate2's model.
    ct2 = folder_bytes(artifacts.ct2) + artifacts.tokenizer.stat().st_size
    disk = {DRAGOMAN: folder_bytes(artifacts.bundle), CT2_SERVER: ct2, CT2_DIRECT: ct2}
    return [
        [
            model,
            precision,
            name,
            statistics.median(one.ready),
            statistics.median(one.first),
            statistics.median(one.at_rest),
            statistics.median(one.loaded),
            disk[name] / MIB,
        ]
        for name, one in taken.items()
    ]


COLUMNS = (
    "model", "precision", "what", "ready s", "first translation s", "MiB at rest", "MiB under load", "MiB on disk",
)  # fmt: skip


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=name_list, default=["bundled", "base"], help="default: bundled,base")
    parser.add_argument("--precisions", type=name_list, default=["fp32", "int8"], help="default: fp32,int8")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of the models (default: {DEFAULT_CACHE})"
    )
    parser.add_argument("--repeats", type=int, default=3, help="rounds (default: 3)")
    add_sentence_options(parser, count=64)
    parser.add_argument("--clients", type=int, default=32, help="concurrent calls of the load (default: 32)")
    parser.add_argument("--beam-size", type=int, default=4, help="1 is greedy (default: 4)")
    parser.add_argument("--serve-options", default="", help='more options of `dragoman serve`, such as "--max-rows 64"')
    parser.add_argument("--quick", action="store_true", help="one model, one round, as a smoke test")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    if args.quick:
        args.models, args.precisions, args.repeats, args.sentences = args.models[:1], args.precisions[:1], 1, 16
    data_folder(args.data)  # fails before the models are made, which takes long
    settings = {
        "sentences": args.sentences,
        "seed": args.seed,
        "clients under load": args.clients,
        "beam": args.beam_size,
        "dragoman serve": args.serve_options or "default options",
        "rounds": args.repeats,
    }
    print_header("Start-up, memory and disk", settings)
    table: list[list[object]] = []
    with load_generator() as generator:
        for model in args.models:
            for precision in args.precisions:
                try:
                    artifacts = find_artifacts(model, precision, args.cache)
                except InvalidInput as error:
                    print(f"- no {model} in {precision}: {error}\n", flush=True)
                    continue
                search = Search(args.beam_size, artifacts.max_target_tokens, LENGTH_PENALTY)
                task = Task(generator, search, sentences_for(args, artifacts), args.clients)
                progress(f"{model}, {precision}")
                taken = measure(artifacts, task, args.repeats, args.serve_options.split())
                table += rows(model, precision, artifacts, taken)
    print_table(COLUMNS, table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
