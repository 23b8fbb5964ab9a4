"""Dragoman on a GPU: parity with the CPU, time of a step, other engines, throughput over gRPC, growth of memory.

    python bench/gpu.py --output gpu.md

needs the `gpu`, `train` and `export` extras, installs nothing, and is meant to take less than nine minutes of one GPU.
Each table is printed and written as soon as it is ready. Parity comes first: if translations are wrong, nothing else is
measured.

`floor` is a lower bound of a step's time: reading the decoder's weights and the cached keys and values once, at the
bandwidth of a copy that is measured in the same run.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, TextIO

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from bench.measure.calls import Search, rates, steady_window
from bench.measure.common import DEFAULT_CACHE, int_list, name_list, percentile, print_header, print_table, progress
from bench.measure.load import Target, load_generator
from bench.measure.servers import dragoman_command, server_process
from bench.peers import gpu_peers
from bench.peers.engines import SOURCE_TOKENS, make_sources
from bench.peers.gpu_parity import BEAM, EVERYDAY, make_runner, open_cuda, print_parity
from bench.peers.models import bundle_path
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizer import SPECIAL_IDS
from dragoman_service.engine.plan import Runner
from dragoman_service.engine.request import DecodingOptions, Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.runtime.cuda import Cuda
from dragoman_service.runtime.device import cuda_problem
from dragoman_service.runtime.golden import translate
from dragoman_service.runtime.settings import GpuOptions

TARGET_TOKENS = 30
SETTLED = slice(6, 26)
"""The steps that count: no request joins or leaves."""


def copy_bandwidth(cuda: Cuda) -> float:
    """Bytes a second that a copy on the GPU reads and writes, both counted."""
    size, stream = 1 << 28, cuda.new_stream()
    one, other = cuda.empty((size,), np.uint8), cuda.empty((size,), np.uint8)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        for _ in range(10):
            cuda.copy(one, other, stream)
        cuda.wait(stream)
        seconds.append(time.perf_counter() - started)
    return 2 * 10 * size / statistics.median(seconds)


def step_seconds(runner: Runner, rows: int, beam_size: int, vocab_size: int) -> tuple[float, float]:
    """Median seconds of a settled step with all rows: of the whole step, and of the runner alone."""
    options = DecodingOptions(beam_size=beam_size)
    sources = make_sources(max(1, rows // beam_size), vocab_size)
    ids = {"begin_id": SPECIAL_IDS["begin_id"], "end_id": SPECIAL_IDS["end_id"]}
    scheduler = Scheduler(max_rows=rows, max_encode_tokens=10**6, **ids)
    for number, source in enumerate(sources):
        scheduler.add(Request(number, tuple(source), TARGET_TOKENS, options), 0.0)
    whole, alone = [], []
    while True:
        started = time.perf_counter()
        plan = scheduler.plan()
        if plan is None:
            return statistics.median(whole[SETTLED]), statistics.median(alone[SETTLED])
        ran = time.perf_counter()
        result = runner.run(plan)
        alone.append(time.perf_counter() - ran)
        scheduler.commit(plan, result, 0.0)
        whole.append(time.perf_counter() - started)


def floor_seconds(bundle: Bundle, rows: int, bandwidth: float) -> float:
    """Lower bound of a step's seconds; see the docstring of this module."""
    layout, size = bundle.manifest.cache, bundle.manifest.architecture
    width, inner, words = (int(size[name]) for name in ("d_model", "d_ff", "vocab_size"))
    weights = layout.decoder_layers * (6 * width * width + 2 * width * inner) + width * words
    positions = SOURCE_TOKENS + TARGET_TOKENS / 2
    cached = rows * layout.decoder_layers * 2 * layout.num_heads * layout.head_dim * positions
    return 2 * (weights + cached) / bandwidth


def steps(args: argparse.Namespace, bandwidth: float) -> None:
    """Print the table of decoder steps."""
    for model in args.models:
        bundle = Bundle.load(bundle_path(model, "fp16", args.cache, forced=True))
        vocab_size = bundle.manifest.vocab_size
        table = []
        for beam_size in (1, BEAM):
            for rows in [rows for rows in args.rows if rows >= beam_size]:
                times = {}
                for graphs in (False, True):
                    runner = make_runner(bundle, rows, GpuOptions(graphs=graphs))
                    step_seconds(runner, rows, beam_size, vocab_size)
                    times[graphs] = step_seconds(runner, rows, beam_size, vocab_size)
                    runner.close()
                whole, alone = times[True]
                floor = floor_seconds(bundle, rows, bandwidth)
                search = "greedy" if beam_size == 1 else f"beam {beam_size}"
                table.append((
                    search, rows, f"{times[False][0] * 1e3:.3f}", f"{whole * 1e3:.3f}", f"{alone * 1e3:.3f}",
                    f"{times[False][0] / whole:.2f}", f"{rows / beam_size / whole:,.0f}", f"{floor / whole:.1%}",
                ))  # fmt: skip
                progress(f"{model} {search} {rows} rows")
        print(f"### A step of `{model}`, fp16\n")
        columns = ("search", "rows", "eager, ms", "captured, ms", "of it the runner", "eager / captured")
        print_table((*columns, "tokens a second", "share of the floor"), table)


def decode_tokens(runner: Runner, rows: int, beam_size: int, vocab_size: int, max_steps: int) -> float:
    """Tokens a second of a full batch, from encoding to the last token, in the loop of the engine's thread."""
    sources = make_sources(max(1, rows // beam_size), vocab_size)
    scheduler = Scheduler(
        max_rows=rows, max_encode_tokens=10**6, max_steps=max_steps, look_ahead=True,
        begin_id=SPECIAL_IDS["begin_id"], end_id=SPECIAL_IDS["end_id"],
    )  # fmt: skip
    started = time.perf_counter()
    for number, source in enumerate(sources):
        scheduler.add(Request(number, tuple(source), TARGET_TOKENS, DecodingOptions(beam_size=beam_size)), 0.0)
    while (plan := scheduler.plan()) is not None:
        scheduler.commit(plan, runner.run(plan), 0.0)
    return len(sources) * TARGET_TOKENS / (time.perf_counter() - started)


def against_others(args: argparse.Namespace) -> None:
    """Print tokens a second of Dragoman and of the installed peers, by rows."""
    for model in args.models:
        bundle = Bundle.load(bundle_path(model, "fp16", args.cache, forced=True))
        vocab_size, options = bundle.manifest.vocab_size, GpuOptions()
        table = []
        for beam_size in (1, BEAM):
            for rows in [rows for rows in args.rows if rows >= beam_size]:
                runner = make_runner(bundle, rows, options)
                sources = make_sources(max(1, rows // beam_size), vocab_size)
                competitors: dict[str, Callable[[], float]] = {
                    "Dragoman": lambda: decode_tokens(runner, rows, beam_size, vocab_size, options.steps),  # noqa: B023
                }
                competitors |= gpu_peers.competitors(model, args, sources, beam_size, TARGET_TOKENS)
                rounds: dict[str, list[float]] = {name: [] for name in competitors}
                for _ in range(args.repeats + 1):
                    for name, compete in competitors.items():
                        rounds[name].append(compete())
                runner.close()
                medians = {name: statistics.median(values[1:]) for name, values in rounds.items()}
                ours = medians.pop("Dragoman")
                search = "greedy" if beam_size == 1 else f"beam {beam_size}"
                shown = [f"{theirs:,.0f} ({ours / theirs:.2f})" for theirs in medians.values()]
                table.append((search, rows, f"{ours:,.0f}", *shown))
                progress(f"{model} against others, {search}, {rows} rows")
        print(
            f"### Tokens a second of `{model}`, {SOURCE_TOKENS} in, {TARGET_TOKENS} out; in brackets ours over theirs\n"
        )
        print_table(("search", "rows", "Dragoman", *gpu_peers.names(args)), table)


def served(args: argparse.Namespace) -> None:
    """Print throughput and latency over gRPC."""
    sentences = EVERYDAY.read_text(encoding="utf-8").splitlines()
    table = []
    command = dragoman_command(bundle_path("bundled", "fp16", args.cache), "--device", args.device, "--max-rows", "256")
    with server_process(command) as server, load_generator() as generator:
        for beam_size in (1, BEAM):
            for clients in args.clients:
                count = max(200, 20 * clients)
                target = Target(server.address, Search(beam_size, 64, 0.6))
                load = generator.closed_loop(target, sentences, clients, clients + count)
                seconds, calls = steady_window(load.calls, clients, count)
                found = rates(seconds, calls)
                latency = sorted(call.done - call.sent for call in calls)
                table.append((
                    "greedy" if beam_size == 1 else f"beam {beam_size}", clients, f"{found.sentences:,.0f}",
                    f"{percentile(latency, 50) * 1e3:.1f}", f"{percentile(latency, 99) * 1e3:.1f}",
                    sum(load.errors.values()),
                ))  # fmt: skip
    print("### Served over gRPC: the bundled model, everyday sentences, one a call\n")
    print_table(("search", "clients", "sentences a second", "p50, ms", "p99, ms", "failed"), table)


def memory(args: argparse.Namespace) -> None:
    """Print the GPU memory in use while `args.sentences` sentences are translated."""
    bundle = Bundle.load(bundle_path("bundled", "fp16", args.cache))
    sources = [(*bundle.tokenizer.encode(line), 2) for line in EVERYDAY.read_text(encoding="utf-8").splitlines()]
    cuda = open_cuda()
    runner = make_runner(bundle, 256, GpuOptions(), cuda)
    table, done = [], 0
    for _ in range(5):
        wanted = args.sentences // 5
        requests = [Request(i, sources[i % len(sources)], 40) for i in range(wanted)]
        translate(runner, requests, 256, bundle.manifest.special_ids)
        done += wanted
        free, total = cuda.memory()
        table.append((f"{done:,}", f"{(total - free) / 2**20:,.0f}"))
    runner.close()
    print("### Memory of the GPU in use\n")
    print_table(("sentences", "MiB"), table)


class _Tee:
    """A text stream that writes to several others."""

    def __init__(self, *outputs: TextIO) -> None:
        self._outputs = outputs

    def write(self, text: str) -> None:
        for output in self._outputs:
            output.write(text)

    def flush(self) -> None:
        for output in self._outputs:
            output.flush()


@contextmanager
def saved(path: Path) -> Iterator[None]:
    """Write standard output to a file as well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        tee: Any = _Tee(sys.stdout, file)
        with redirect_stdout(tee):
            yield
        tee.flush()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--output", type=Path, default=Path("gpu.md"), help="file for the tables (default: gpu.md)")
    add("--models", type=name_list, default=["small", "base"], help="default: small,base")
    add("--rows", type=int_list, default=[1, 8, 32, 64, 128, 256], help="default: 1,8,32,64,128,256")
    add("--clients", type=int_list, default=[1, 32, 256], help="default: 1,32,256")
    add("--peers", type=name_list, default=list(gpu_peers.PEERS), help=f"default: {','.join(gpu_peers.PEERS)}")
    add("--sentences", type=int, default=100_000, help="sentences of the memory test (default: 100000)")
    add("--repeats", type=int, default=3, help="rounds against other engines (default: 3)")
    add("--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of the models (default: {DEFAULT_CACHE})")
    add("--device", default="cuda", help="device of the server (default: cuda)")
    args = parser.parse_args()
    if problem := cuda_problem():
        raise SystemExit(f"no GPU to measure: {problem}")
    with saved(args.output):
        cuda = open_cuda()
        bandwidth = copy_bandwidth(cuda)
        cuda.close()
        print_header("On a GPU", {"copy bandwidth": f"{bandwidth / 1e9:,.0f} GB/s"})
        if not print_parity(args.cache, max(args.rows)):
            raise SystemExit("the translations are wrong: nothing else is measured")
        steps(args, bandwidth)
        against_others(args)
        served(args)
        memory(args)


if __name__ == "__main__":
    main()
