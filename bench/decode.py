"""Decoding speed in process: Dragoman's loop and other engines on the same sentences.

    python bench/decode.py --model bundled --precision int8

Every sentence has 25 source tokens and gets exactly 30 target tokens, from models that never produce the end of the
sentence. Dragoman and CTranslate2 run the same weights; transformers and optimum-onnx run a MarianMT of the same sizes
with random weights. For each number of rows every setting of an engine is tried once. The best two take part in the
rounds, in which all engines take turns, and the faster one is reported. CTranslate2's backend is chosen before that, by
a trial of its own.
"""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import (
    Timing,
    base_parser,
    instruction_sets,
    int_list,
    interleaved,
    name_list,
    print_header,
    print_table,
    progress,
    ratio,
)
from bench.peers.competitor import CompetitorFailed, Process
from bench.peers.engines import SOURCE_TOKENS, Setting
from bench.peers.models import bundle_path, checkpoint_path, ct2_path, marian_onnx_path, marian_path
from dragoman_service.errors import InvalidInput

TARGET_TOKENS = 30
BEAM_SIZE = 4
PEERS = ("CTranslate2", "PyTorch", "transformers", "optimum-onnx")
OTHER_ROWS = (1, 8, 32)
"""Numbers of rows for which the slower engines are measured too, with greedy search only."""
FINALISTS = 2
"""Settings of an engine that go from the trial to the rounds. Slower engines have one."""
ROUND_SECONDS = 0.1
"""A shorter call is repeated for this long, and its median counts."""
JOB_SECONDS = 10.0
"""Most seconds for the rounds of one row of the table, which reduces the number of rounds, down to 3."""
CT2_BACKENDS: dict[str, dict[str, str]] = {
    "": {},
    "AVX-512": {"CT2_FORCE_CPU_ISA": "AVX512"},
    "MKL": {"CT2_USE_MKL": "1"},
}
"""Name -> environment of CTranslate2 that selects the backend; empty: its own choice."""
HOPELESS = 3.0
"""A backend that takes so many times as long as the best in a first call is not tried further."""


@dataclass(frozen=True, slots=True)
class Job:
    """A row of the table."""

    sentences: int
    beam_size: int

    @property
    def rows(self) -> int:
        """Rows of the batch."""
        return self.sentences * self.beam_size

    @property
    def search(self) -> str:
        """Name of the search in the table."""
        return "greedy" if self.beam_size == 1 else f"beam {self.beam_size}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The times of one setting for a job."""

    label: str
    whole: Timing
    """Time of the encoder and all target tokens."""
    first: Timing
    """Time of the encoder and one target token."""

    def step_milliseconds(self) -> float:
        """Milliseconds of the whole call per target position."""
        return self.whole.median / TARGET_TOKENS * 1e3

    def decode_milliseconds(self) -> float:
        """Milliseconds per target position after the first one."""
        return (self.whole.median - self.first.median) / (TARGET_TOKENS - 1) * 1e3


def dragoman_settings(bundle: Path, cores: int, max_rows: int) -> list[Setting]:
    """Settings of Dragoman: one lane on one thread, one lane on all threads, and a lane for each core."""
    shapes = [(1, 1), *([(1, cores), (cores, 1)] if cores > 1 else [])]
    return [
        Setting("Dragoman", f"{lanes} x {threads}", bundle, {"lanes": lanes, "threads": threads, "max_rows": max_rows})
        for lanes, threads in shapes
    ]


def ct2_settings(model: Path, precision: str, cores: int, backend: str) -> list[Setting]:
    """Settings of CTranslate2: numbers of workers (inter_threads) and of threads of each (intra_threads)."""
    compute_type = {"fp32": "float32"}.get(precision, precision)
    shapes = [(1, 1), *([(1, cores), (cores, 1)] if cores > 1 else [])]
    return [
        Setting(
            "CTranslate2",
            f"{inter} x {intra} {backend}".strip(),
            model,
            {"compute_type": compute_type, "inter_threads": inter, "intra_threads": intra},
            CT2_BACKENDS[backend],
        )
        for inter, intra in shapes
    ]


def other_settings(args: Namespace, cores: int) -> list[Setting]:
    """Settings of the slower engines: on one core and on all cores."""
    found = []
    for threads in sorted({1, cores}):
        named = f"{threads} thread{'s' * (threads > 1)}"
        if "PyTorch" in args.peers:
            model = checkpoint_path(args.model, args.cache, forced=True)
            found.append(Setting("PyTorch", named, model, {"threads": threads}))
        if "transformers" in args.peers:
            model = marian_path(args.model, args.cache)
            found.append(Setting("transformers", named, model, {"threads": threads, "onnx": False}))
        for precision in dict.fromkeys(("fp32", args.precision)) if "optimum-onnx" in args.peers else ():
            model = marian_onnx_path(args.model, precision, args.cache)
            options = {"threads": threads, "onnx": True}
            found.append(Setting("optimum-onnx", f"{precision}, {named}", model, options))
    return found


def best_ct2_backend(model: Path, precision: str, repeats: int) -> tuple[str, str]:
    """Choose CTranslate2's backend by greedy decoding on one thread, of 8 and of 32 sentences.

    Returns:
        The name of the backend, and for the table the times of all backends over that of the best.
    """
    names = [name for name in CT2_BACKENDS if name != "AVX-512" or "avx512f" in instruction_sets()]
    processes = {name: Process(ct2_settings(model, precision, 1, name)[0]) for name in names}
    try:
        tried = {name: process.time(8, 1, TARGET_TOKENS) for name, process in processes.items()}
        slower = {name: seconds / min(tried.values()) for name, seconds in tried.items()}
        near = [name for name in names if slower[name] < HOPELESS]
        calls = {
            (name, sentences): _timing(processes[name], Job(sentences, 1), TARGET_TOKENS)
            for sentences in (8, 32)
            for name in near
        }
        timings = interleaved(calls, min(3, repeats), warm_up=False)
    finally:
        _close(processes.values())
    for name in near:
        slower[name] = max(timings[name, n].median / min(timings[other, n].median for other in near) for n in (8, 32))
    shown = ", ".join(f"{name or 'its own choice'} {value:.2f}" for name, value in slower.items())
    return min(slower, key=lambda name: slower[name]), shown


def measure(processes: Sequence[Process], job: Job, repeats: int, num_finalists: int) -> dict[str, Outcome]:
    """Measure all settings for a job. Returns engine -> the outcome of its best setting."""
    trials: dict[str, list[tuple[float, Process]]] = {}
    for process in processes:
        trial = process.time(job.sentences, job.beam_size, TARGET_TOKENS)
        if trial < 1:  # the first call of a shape allocates its memory
            trial = process.time(job.sentences, job.beam_size, TARGET_TOKENS)
        trials.setdefault(process.setting.engine, []).append((trial, process))
    finalists = [pair for tried in trials.values() for pair in sorted(tried, key=lambda pair: pair[0])[:num_finalists]]
    round_seconds = sum(max(ROUND_SECONDS, seconds) for seconds, _ in finalists)
    rounds = max(3, min(repeats, int(JOB_SECONDS / round_seconds)))
    calls = {
        (process, length): _timing(process, job, length) for _, process in finalists for length in (TARGET_TOKENS, 1)
    }
    timings = interleaved(calls, rounds, warm_up=False)
    best: dict[str, Outcome] = {}
    for _, process in finalists:
        outcome = Outcome(process.setting.label, timings[process, TARGET_TOKENS], timings[process, 1])
        engine = process.setting.engine
        if engine not in best or outcome.whole.median < best[engine].whole.median:
            best[engine] = outcome
    return best


def _timing(process: Process, job: Job, length: int) -> Callable[[], float]:
    return lambda: process.time(job.sentences, job.beam_size, length, at_least=ROUND_SECONDS)


def _close(processes: Iterable[Process]) -> None:
    for process in processes:
        process.close()


def _run_jobs(
    settings: Sequence[Setting], jobs: Sequence[Job], repeats: int, num_finalists: int = FINALISTS
) -> dict[Job, dict[str, Outcome]]:
    processes = [Process(setting) for setting in settings]
    found = {}
    try:
        for process in processes:  # wait until all have loaded
            process.time(1, 1, 1)
        for job in jobs:
            # One sentence cannot be divided among lanes or workers.
            fitting = [p for p in processes if job.sentences > 1 or not _has_workers(p.setting)]
            found[job] = measure(fitting, job, repeats, num_finalists)
            shown = ", ".join(f"{name} {out.step_milliseconds():.3f} ms" for name, out in found[job].items())
            progress(f"{job.rows} rows, {job.search}: {shown}")
    finally:
        _close(processes)
    return found


def _has_workers(setting: Setting) -> bool:
    return max(setting.options.get("lanes", 1), setting.options.get("inter_threads", 1)) > 1


def jobs_of(rows: Sequence[int], searches: Sequence[str]) -> list[Job]:
    """Jobs with greedy and beam search for each number of rows, at least one sentence each."""
    greedy = [Job(count, 1) for count in rows] if "greedy" in searches else []
    beam = [Job(max(1, count // BEAM_SIZE), BEAM_SIZE) for count in rows] if "beam" in searches else []
    return [*greedy, *beam]


def print_main(found: dict[Job, dict[str, Outcome]]) -> None:
    """Print the table of Dragoman and CTranslate2."""
    columns = ["rows", "search", "Dragoman ms/step", "lanes x threads", "CTranslate2 ms/step", "workers x threads"]
    columns += ["ratio", "Dragoman tokens/s", "CTranslate2 tokens/s", "Dragoman decode", "CTranslate2 decode"]
    columns += ["Dragoman start", "CTranslate2 start", "rounds"]
    lines = []
    for job, outcomes in found.items():
        ours, theirs = outcomes.get("Dragoman"), outcomes.get("CTranslate2")
        tokens = job.sentences * TARGET_TOKENS
        lines.append(
            [
                job.rows,
                job.search,
                *(ours.step_milliseconds() if ours else None, ours.label if ours else "-"),
                *(theirs.step_milliseconds() if theirs else None, theirs.label if theirs else "-"),
                ratio(theirs.whole, ours.whole) if ours and theirs else None,
                tokens / ours.whole.median if ours else None,
                tokens / theirs.whole.median if theirs else None,
                ours.decode_milliseconds() if ours else None,
                theirs.decode_milliseconds() if theirs else None,
                ours.first.median * 1e3 if ours else None,
                theirs.first.median * 1e3 if theirs else None,
                len(next(iter(outcomes.values())).whole.rounds),
            ]
        )
    print_table(columns, lines)
    print("ms/step: the whole call, encoder included, over 30 target tokens; tokens/s likewise. decode: ms/step of")
    print(
        "the 29 behind the first. start: ms of a call of one target token, mostly the encoder's. ratio: CTranslate2's"
    )
    print(
        "time over Dragoman's for the whole call, median over the rounds: above 1 where Dragoman is faster.\n",
        flush=True,
    )


def print_others(found: dict[Job, dict[str, Outcome]], engines: Sequence[str]) -> None:
    """Print the table of Dragoman and the slower engines."""
    columns = ["rows", "search", "Dragoman ms/step"]
    for engine in engines:
        columns += [f"{engine} ms/step", "its best", "ratio"]
    lines = []
    for job, outcomes in found.items():
        ours = outcomes["Dragoman"]
        line: list[object] = [job.rows, job.search, ours.step_milliseconds()]
        for engine in engines:
            other = outcomes[engine]
            line += [other.step_milliseconds(), other.label, ratio(other.whole, ours.whole)]
        lines.append(line)
    print_table(columns, lines)


def argument_parser() -> ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__)
    parser.add_argument("--rows", type=int_list, default=[1, 8, 32, 64, 128], help="default: 1,8,32,64,128")
    parser.add_argument("--searches", type=name_list, default=["greedy", "beam"], help="default: greedy,beam")
    parser.add_argument(
        "--peers", type=name_list, default=list(PEERS), help=f"default: {','.join(PEERS)}; empty for none"
    )
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    cores = len(os.sched_getaffinity(0))
    jobs = jobs_of(args.rows, args.searches)
    try:
        bundle = bundle_path(args.model, args.precision, args.cache, forced=True)
        settings = dragoman_settings(bundle, cores, max(job.rows for job in jobs))
        print_header(
            f"Decoding, {args.model}, {args.precision}",
            {"source tokens": SOURCE_TOKENS, "target tokens": TARGET_TOKENS, "rounds": f"up to {args.repeats}"},
        )
        main_settings = list(settings)
        if "CTranslate2" in args.peers:
            model = ct2_path(args.model, args.cache, forced=True)
            backend, shown = best_ct2_backend(model, args.precision, args.repeats)
            print(f"CTranslate2's backends, time over that of the best: {shown}\n", flush=True)
            main_settings += ct2_settings(model, args.precision, cores, backend)
        print_main(_run_jobs(main_settings, jobs, args.repeats))
        others = other_settings(args, cores)
        other_jobs = [job for job in jobs if job.beam_size == 1 and job.rows in OTHER_ROWS]
        if others and other_jobs:
            engines = list(dict.fromkeys(setting.engine for setting in others))
            found = _run_jobs([*settings, *others], other_jobs, min(3, args.repeats), num_finalists=1)
            print_others(found, engines)
    except (CompetitorFailed, InvalidInput) as error:
        print(f"decode.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
