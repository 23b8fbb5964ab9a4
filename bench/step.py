"""The parts of a decoder step's time, beside lower bounds of this machine.

    python bench/step.py --model bundled --precision int8

Scheduler and runner decode a batch of sentences, 25 source tokens each, greedily, as the engine's thread does, in one
lane on one thread. First table: the time of a step in Python and in ONNX Runtime, beside two lower bounds that are
measured in the same run. Second table: the operators of a step, from a second pass under ONNX Runtime's profiler, which
slows every operator down; the last line says by how much in all. Third table: the operators of the encoder.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import base_parser, int_list, print_header, print_table
from bench.measure.limits import measure_limits
from bench.peers.engines import SOURCE_TOKENS, make_sources
from bench.peers.models import bundle_path
from dragoman_model.config import ModelConfig
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.tokenizer import SPECIAL_IDS
from dragoman_service.engine.request import Request
from dragoman_service.engine.scheduler import Scheduler
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.ort import onnxruntime
from dragoman_service.runtime.runner import OrtRunner

TARGET_TOKENS = 30
SETTLED = slice(5, 25)
"""The steps that count: no request joins or leaves, and the caches no longer grow."""
SHOWN_SHARE = 0.01
"""Operators below this share of a step are summed in one line."""


@dataclass(slots=True)
class Steps:
    """Seconds of each step, by part. Equal indices belong to the same step."""

    plan: list[float] = field(default_factory=list)
    run: list[float] = field(default_factory=list)
    runtime: list[float] = field(default_factory=list)
    """The part of `run` that was in ONNX Runtime's decoder."""
    commit: list[float] = field(default_factory=list)

    def add(self, other: Steps) -> None:
        """Add the settled steps of another decoding."""
        for name in ("plan", "run", "runtime", "commit"):
            getattr(self, name).extend(getattr(other, name)[SETTLED])

    def microseconds(self) -> dict[str, float]:
        """Median microseconds of each part."""
        parts = {name: statistics.median(getattr(self, name)) * 1e6 for name in ("plan", "run", "runtime", "commit")}
        parts["bind"] = parts.pop("run") - parts["runtime"]
        return parts


class RuntimeClock:
    """Sums the seconds that this process spends in `InferenceSession.run_with_iobinding`."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count calls while the context is entered."""
        original = onnxruntime.InferenceSession.run_with_iobinding

        def timed(session: Any, *args: Any) -> Any:
            started = time.perf_counter()
            try:
                return original(session, *args)
            finally:
                self.seconds += time.perf_counter() - started

        with mock.patch.object(onnxruntime.InferenceSession, "run_with_iobinding", timed):
            yield


def decode(runner: OrtRunner, rows: int, clock: RuntimeClock) -> Steps:
    """Decode one batch of `rows` sentences that all join in the first step."""
    begin, end = SPECIAL_IDS["begin_id"], SPECIAL_IDS["end_id"]
    budget = rows * SOURCE_TOKENS
    scheduler = Scheduler(max_rows=rows, begin_id=begin, end_id=end, max_encode_tokens=budget)
    for index, source in enumerate(make_sources(rows, 8000)):
        scheduler.add(Request(index, tuple(source), TARGET_TOKENS), 0.0)
    steps = Steps()
    while True:
        times = [time.perf_counter()]
        plan = scheduler.plan()
        times.append(time.perf_counter())
        if plan is None:
            return steps
        before = clock.seconds
        result = runner.run(plan)
        times.append(time.perf_counter())
        scheduler.commit(plan, result, times[-1])
        times.append(time.perf_counter())
        steps.plan.append(times[1] - times[0])
        steps.run.append(times[2] - times[1])
        steps.runtime.append(clock.seconds - before)
        steps.commit.append(times[3] - times[2])


def profile(bundle: Bundle, rows: int, repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Microseconds by operator and width of its output, of a settled decoder step and of the encoder for a batch."""
    plain = onnxruntime.SessionOptions
    with tempfile.TemporaryDirectory() as folder:

        def profiling() -> Any:
            options = plain()
            options.enable_profiling = True
            options.profile_file_prefix = f"{folder}/profile"
            return options

        with mock.patch.object(onnxruntime, "SessionOptions", profiling):
            runner = OrtRunner(bundle, max_rows=rows, threads=1)
        for _ in range(repeats + 1):
            decode(runner, rows, RuntimeClock())
        files = [Path(session.end_profiling()) for session in (runner.graphs.decoder, runner.graphs.encoder)]
        decoder, encoder = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    # The runner may divide a batch into several runs of the encoder, so its times are per batch.
    return _operators(decoder, TARGET_TOKENS, SETTLED), _operators(encoder, None, slice(None), batches=repeats + 1)


def _operators(
    events: Sequence[dict[str, Any]], steps: int | None, settled: slice, batches: int = 0
) -> dict[str, float]:
    """The profiler's microseconds of each operator: per settled step, or if `steps` is None per batch."""
    runs: list[dict[str, float]] = []
    current: dict[str, float] = defaultdict(float)
    for event in events:  # nodes come before the event of the run that they belong to
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            arguments = event["args"]
            shapes = [shape for output in arguments["output_type_shape"] for shape in output.values()]
            width = shapes[0][-1] if shapes and shapes[0] else 1
            current[f"{arguments['op_name']} [{width}]"] += event["dur"]
        elif event["cat"] == "Session" and event["name"] == "model_run":
            runs.append(current)
            current = defaultdict(float)
    if steps is None:
        kept, count = runs[len(runs) // batches :], batches - 1
    else:
        kept = [run for start in range(steps, len(runs), steps) for run in runs[start : start + steps][settled]]
        count = len(kept)
    total: dict[str, float] = defaultdict(float)
    for run in kept:
        for name, duration in run.items():
            total[name] += duration / count
    return dict(total)


def step_bytes(config: ModelConfig, rows: int, item_size: int) -> int:
    """Bytes of weights and caches that a step in the middle of a translation must read."""
    weights = config.decoder_layers * _layer_weights(config) + config.d_model * config.vocab_size
    positions = SOURCE_TOKENS + (SETTLED.start + SETTLED.stop) // 2
    cache = rows * config.decoder_layers * 2 * positions * config.d_model
    return (weights + cache) * item_size


def step_products(config: ModelConfig, rows: int) -> int:
    """Number of multiply-add operations of a step."""
    weights = config.decoder_layers * _layer_weights(config) + config.d_model * config.vocab_size
    positions = SOURCE_TOKENS + (SETTLED.start + SETTLED.stop) // 2
    return rows * (weights + config.decoder_layers * 2 * positions * config.d_model)


def _layer_weights(config: ModelConfig) -> int:
    """Weights of a decoder layer that a step uses: four square matrices of self-attention, two of cross-attention."""
    return 6 * config.d_model**2 + 2 * config.d_model * config.d_ff


def print_steps(measured: dict[int, Steps], config: ModelConfig, precision: str, limits: dict[object, float]) -> None:
    """Print the table of the parts of a step."""
    item_size = 4 if precision == "fp32" else 1
    columns = ["rows", "step us", "Python us", "plan", "commit", "bind", "Python", "ONNX Runtime us"]
    columns += ["bytes bound us", "products bound us", "ONNX Runtime over the larger"]
    lines = []
    for rows, steps in measured.items():
        parts = steps.microseconds()
        python = parts["plan"] + parts["commit"] + parts["bind"]
        whole = python + parts["runtime"]
        # The rate of a copy counts bytes read and written, so it is taken as the rate of reading alone.
        bytes_bound = step_bytes(config, rows, item_size) / limits[rows] * 1e6
        products_bound = step_products(config, rows) / limits["matrix", 1] * 1e6
        lines.append(
            [
                rows,
                whole,
                python,
                *(parts[name] for name in ("plan", "commit", "bind")),
                f"{python / whole:.0%}",
                parts["runtime"],
                bytes_bound,
                products_bound,
                parts["runtime"] / max(bytes_bound, products_bound),
            ]
        )
    print_table(columns, lines)
    print(
        "plan, commit: the scheduler. bind: the runner around ONNX Runtime's call. bytes bound: weights and caches read"
    )
    print("once, at the rate of a copy of so many bytes on this machine now, in the processor's cache if they fit.")
    print("products bound: multiplications of the step at the rate of a large matrix product.\n")


def print_operators(title: str, measured: dict[int, dict[str, float]], plain: dict[int, float] | None) -> None:
    """Print the table of microseconds and shares of each operator, by rows."""
    shares = {
        rows: {name: value / sum(operators.values()) for name, value in operators.items()}
        for rows, operators in measured.items()
    }
    names = {name for found in shares.values() for name, share in found.items() if share >= SHOWN_SHARE}
    ordered = sorted(names, key=lambda name: -sum(found.get(name, 0) for found in shares.values()))
    lines: list[list[object]] = []
    for name in ordered:
        line: list[object] = [name]
        for rows, operators in measured.items():
            line += [operators.get(name, 0.0), f"{shares[rows].get(name, 0.0):.0%}"]
        lines.append(line)
    rest: list[object] = ["all others"]
    total: list[object] = ["together"]
    for operators in measured.values():
        others = sum(value for name, value in operators.items() if name not in names)
        rest += [others, f"{others / sum(operators.values()):.0%}"]
        total += [sum(operators.values()), "100%"]
    lines += [rest, total]
    if plain is not None:
        without: list[object] = ["the same without profiler, calls included"]
        for rows, operators in measured.items():
            without += [plain[rows], f"{plain[rows] / sum(operators.values()):.0%}"]
        lines.append(without)
    print_table([title, *(part for rows in measured for part in (f"{rows} rows us", "share"))], lines)


def argument_parser() -> ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__)
    parser.add_argument("--rows", type=int_list, default=[1, 8, 32, 64], help="default: 1,8,32,64")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    try:
        bundle = Bundle.load(bundle_path(args.model, args.precision, args.cache, forced=True))
    except InvalidInput as error:
        print(f"step.py: {error}", file=sys.stderr)
        return 1
    config = ModelConfig.from_settings(bundle.manifest.architecture)
    settings = {"source tokens": SOURCE_TOKENS, "target tokens": TARGET_TOKENS, "rounds": args.repeats, "threads": 1}
    print_header(f"Where a step's time goes, {args.model}, {args.precision}", settings)
    measured = {rows: Steps() for rows in args.rows}
    clock = RuntimeClock()
    runners = {rows: OrtRunner(bundle, max_rows=rows, threads=1) for rows in args.rows}
    with clock.running():
        for index in range(args.repeats + 1):
            for rows, runner in runners.items():
                steps = decode(runner, rows, clock)
                if index:  # the first one warms up
                    measured[rows].add(steps)
    item_size = 4 if args.precision == "fp32" else 1
    sizes = {rows: step_bytes(config, rows, item_size) for rows in args.rows}
    limits = measure_limits(args.precision, sizes, 2, args.repeats)
    print(
        f"Copying, bytes read and written: {limits['large', 1] / 1e9:.1f} GB/s on one thread, "
        f"{limits['large', 2] / 1e9:.1f} on two, {limits[args.rows[0]] / 1e9:.1f} on one for the "
        f"{sizes[args.rows[0]] / 1e6:.1f} MB of a step of {args.rows[0]} rows."
    )
    print(
        f"Products of {args.precision} matrices: {limits['matrix', 1] / 1e9:.0f} billion multiplications with "
        f"additions a second on one thread, {limits['matrix', 2] / 1e9:.0f} on two.\n"
    )
    print_steps(measured, config, args.precision, limits)
    profiles = {rows: profile(bundle, rows, args.repeats) for rows in args.rows}
    plain = {rows: steps.microseconds()["runtime"] for rows, steps in measured.items()}
    print_operators("decoder step: operator [width]", {rows: found[0] for rows, found in profiles.items()}, plain)
    print_operators("encoder: operator [width]", {rows: found[1] for rows, found in profiles.items()}, None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
