"""Code shared by all benchmarks: description of the machine, tables, timing in turns, and command-line options.

A script begins with `sys.path.insert(0, str(Path(__file__).parents[1]))` and then imports `bench.measure.common`.
"""

from __future__ import annotations

import argparse
import gc
import importlib.metadata
import math
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dragoman_model.markdown import markdown_table

ROOT = Path(__file__).parents[2]
DEFAULT_CACHE = Path("~/.cache/dragoman-bench")
INSTRUCTION_SETS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8")
"""Instruction sets for which matrix kernels exist."""
LIBRARIES = ("onnxruntime", "ctranslate2", "torch", "transformers", "optimum-onnx", "numpy", "grpcio")

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Timing:
    """The seconds that one competitor took in each round, in the order of the rounds."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.rounds)

    @property
    def spread(self) -> float:
        """Noise of the rounds: half the interquartile range over the median. 0 for a single round."""
        if len(self.rounds) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.rounds, n=4, method="inclusive")
        return (high - low) / 2 / self.median


def interleaved(
    competitors: Mapping[Name, Callable[[], float | None]], repeats: int, *, settle: float = 0.0, warm_up: bool = True
) -> dict[Name, Timing]:
    """Time competitors in turns, A B C A B C and so on, so that disturbances of the machine affect all of them.

    Args:
        competitors: Name -> function to time. It returns its seconds, or None to have the call itself timed.
        repeats: Rounds, 1 or more.
        settle: Seconds to wait before each call, for threads of the previous competitor that still spin.
        warm_up: Run each competitor once before the rounds, untimed.
    """
    rounds: dict[Name, list[float]] = {name: [] for name in competitors}
    for index in range(repeats + warm_up):
        for name, compete in competitors.items():
            gc.collect()  # garbage of one competitor must not be collected in the time of another
            if settle:
                time.sleep(settle)
            started = time.perf_counter()
            seconds = compete()
            elapsed = time.perf_counter() - started
            if index >= warm_up:
                rounds[name].append(elapsed if seconds is None else seconds)
    return {name: Timing(tuple(values)) for name, values in rounds.items()}


def ratio(slower: Timing, faster: Timing) -> float:
    """How many times as long `slower` takes: the median over the rounds of the ratio within each round.

    Both must come from the same call of `interleaved`.
    """
    return statistics.median(a / b for a, b in zip(slower.rounds, faster.rounds, strict=True))


def seconds_per_call(call: Callable[[], object], *, at_least: float = 0.1, most_calls: int = 1000) -> float:
    """Median seconds of a call, among as many calls as take `at_least` seconds, and at most `most_calls`."""
    times: list[float] = []
    while not times or (sum(times) < at_least and len(times) < most_calls):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all do not exceed (nearest rank); NaN if there are none."""
    if not values:
        return math.nan
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def instruction_sets() -> list[str]:
    """Those of `INSTRUCTION_SETS` that the processor has."""
    flags = _cpu_info().get("flags", "").split()
    return [name for name in INSTRUCTION_SETS if name in flags]


def machine_line() -> str:
    """Describe the processor, the cores that this process may use, memory, instruction sets and system."""
    info, sets = _cpu_info(), instruction_sets()
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{info.get('model name', platform.processor())}, {cores} core{'s' * (cores != 1)}, {memory:.0f} GiB, "
        f"{' '.join(sets) or 'no vector instructions known of'}, {platform.system()} {platform.machine()}"
    )


def versions_line(libraries: Iterable[str] = LIBRARIES) -> str:
    """Versions of Python and of the installed ones of `libraries`."""
    found = []
    for library in libraries:
        try:
            found.append(f"{library} {importlib.metadata.version(library)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join([f"Python {platform.python_version()}", *found])


def command_line() -> str:
    """The command line of this process, with the script's path relative to the repository if it is inside."""
    script = Path(sys.argv[0]).resolve()
    name = script.relative_to(ROOT).as_posix() if script.is_relative_to(ROOT) else script.name
    return shlex.join(["python", name, *sys.argv[1:]])


def print_header(title: str, settings: Mapping[str, object]) -> None:
    """Print the header of a table: title, command, machine, versions, settings and load of the machine."""
    load = os.getloadavg()[0]
    print(f"## {title}\n\n    {command_line()}\n")
    print(f"- machine: {machine_line()}")
    print(f"- versions: {versions_line()}")
    print("- settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()))
    print(f"- load of the machine at the start: {load:.2f}\n", flush=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table and an empty line after it."""
    print(markdown_table(columns, rows) + "\n", flush=True)


def progress(message: str) -> None:
    """Print a progress message to standard error: standard output is for tables."""
    print(message, file=sys.stderr, flush=True)


def base_parser(description: str | None, *, model: str = "bundled", repeats: int = 5) -> argparse.ArgumentParser:
    """A command line with the options that the benchmarks share: --model, --precision, --cache, --repeats."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=model, help=f"bundled, small or base (default: {model}); see models.py")
    parser.add_argument("--precision", default="int8", help="fp32 or int8, for all competitors (default: int8)")
    parser.add_argument(
        "--cache", type=Path, default=DEFAULT_CACHE, help=f"folder of the models (default: {DEFAULT_CACHE})"
    )
    parser.add_argument("--repeats", type=int, default=repeats, help=f"rounds of timing (default: {repeats})")
    return parser


def int_list(text: str) -> list[int]:
    """Parse numbers separated by commas, as an argparse type."""
    return [int(part) for part in text.split(",")]


def name_list(text: str) -> list[str]:
    """Parse names separated by commas, as an argparse type. An empty text is an empty list."""
    return [part for part in text.split(",") if part]


def _cpu_info() -> dict[str, str]:
    """Fields of the first processor in /proc/cpuinfo; empty if there is no such file."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in text.split("\n\n", 1)[0].splitlines() if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}
