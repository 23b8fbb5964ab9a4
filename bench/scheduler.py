"""The scheduler's time for a step, which is all the Python code between two runs of the decoder.

Scripted results replace the neural network. A full batch makes steps in two modes: `steady`, where no request joins or
leaves, and `busy`, where translations have many lengths and waiting requests join as soon as rows are free. A time is
the mean over the steps of a round, in microseconds of processor time, of `plan` and `commit` together. The table has
the median of the rounds.

With `--old FOLDER`, a checkout of another commit, its scheduler is timed in turns with this one.
"""

from __future__ import annotations

import argparse
import inspect
import json
import os
import random
import statistics
import subprocess
import sys
import time
from itertools import count, cycle
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
BEGIN, END = 1, 2
WORDS = range(4, 32_000)
SCRIPTED_RESULTS = 32
WIDE = 256
"""Candidates of the request that samples from many."""
PENALISED = {"repetition_penalty": 1.2, "no_repeat_ngram_size": 3}
SEARCHES: dict[str, tuple[dict[str, Any], bool]] = {
    "greedy": ({}, False),
    "greedy, one samples of 256": ({}, True),
    "penalty": ({"repetition_penalty": 1.2}, False),
    "penalty, 3-grams": (PENALISED, False),
    "beam 4": ({"beam_size": 4}, False),
    "beam 4, penalty, 3-grams": ({"beam_size": 4, **PENALISED}, False),
}
"""Name -> options of all requests, and whether one of them samples from `WIDE` candidates."""


def worker(rounds: int) -> None:
    """Read settings from standard input, one JSON object a line, and print the microseconds of each."""
    for line in sys.stdin:
        setting = json.loads(line)
        times = [time_round(**setting) for _ in range(rounds)]
        print(statistics.median(times) * 1e6, flush=True)


def time_round(search: str, rows: int, length: int, busy: bool) -> float:
    """Mean seconds of a step in one round with a full batch."""
    engine = _engine()
    options, wide = SEARCHES[search]
    width = options.get("beam_size", 1)
    requests = rows // width
    rng, ids = random.Random(1), count()
    limits = {"max_rows": rows, "begin_id": BEGIN, "end_id": END, "max_encode_tokens": 1_000_000}
    if "max_queue" in inspect.signature(engine.Scheduler).parameters:  # an older one bounds its queue itself
        limits["max_queue"] = requests + 1
    scheduler = engine.Scheduler(**limits)
    results = _results(engine, rows, WIDE if wide else 1 if width == 1 else 2 * width)
    if wide:
        sampling = engine.Sampling(top_k=WIDE, seed=1)
        scheduler.add(engine.Request(next(ids), (5,) * 30, 10 * length, engine.DecodingOptions(sampling=sampling)), 0.0)
    spent = 0.0
    for step in range(length):
        while scheduler.num_waiting < requests and (busy or not step):
            spread = length - 1 if busy else 0
            target = length + 1 + rng.randint(-spread, spread)
            scheduler.add(engine.Request(next(ids), (5,) * 30, target, engine.DecodingOptions(**options)), now=0.0)
        result = next(results)
        started = time.thread_time()
        plan = scheduler.plan()
        planned = time.thread_time()
        if len(getattr(plan, "wide_rows", ())):
            result = _apart(engine, plan, result)
        if engine.in_lists:
            result = engine.StepResult(result.token_ids.tolist(), result.log_probs.tolist())
        ran = time.thread_time()
        scheduler.commit(plan, result, now=0.0)
        if 0 < step < length - 1:  # in steady mode, all requests join in the first step
            spent += planned - started + time.thread_time() - ran
    return spent / (length - 2)


def _engine() -> Any:
    """The engine's classes, wherever the checkout has them."""
    from types import SimpleNamespace  # noqa: PLC0415

    names = SimpleNamespace(in_lists=False)
    try:
        from dragoman_service.engine import plan, request, scheduler  # noqa: PLC0415
    except ImportError:
        from dragoman_service import plan, request, scheduler  # type: ignore[no-redef,attr-defined] # noqa: PLC0415

        names.in_lists = True
    names.Scheduler, names.StepResult = scheduler.Scheduler, plan.StepResult
    names.Request, names.DecodingOptions, names.Sampling = request.Request, request.DecodingOptions, request.Sampling
    return names


def _results(engine: Any, rows: int, candidates: int) -> Any:
    """Precomputed results, in a cycle. They never end a sentence, so requests end by length."""
    import numpy as np  # noqa: PLC0415

    rng = np.random.default_rng(0)
    made = []
    for _ in range(SCRIPTED_RESULTS):
        ids = rng.integers(WORDS.start, WORDS.stop, (rows, candidates))
        log_probs = -np.sort(rng.exponential(2.0, (rows, candidates)), axis=1)
        made.append(engine.StepResult(ids, log_probs.astype(np.float32)))
    return cycle(made)


def _apart(engine: Any, plan: Any, result: Any) -> Any:
    """A result with the candidates of wide rows apart, as runners give them to a plan that has such rows."""
    shared = [array[:, : plan.num_candidates] for array in (result.token_ids, result.log_probs)]
    ids, log_probs = (array[plan.wide_rows] for array in (result.token_ids, result.log_probs))
    return engine.StepResult(*shared, wide_ids=ids, wide_log_probs=log_probs)


def _start(folder: Path, rounds: int) -> subprocess.Popen[str]:
    path = os.pathsep.join(str(folder / name) for name in ("service", "model", "protos"))
    command = [sys.executable, str(ROOT / "bench" / "scheduler.py"), "--worker", "--repeats", str(rounds)]
    environment = os.environ | {"PYTHONPATH": path}
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _ask(process: subprocess.Popen[str], setting: dict[str, Any]) -> float:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(setting) + "\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="1,8,32,64", help="rows of the batch (default: 1,8,32,64)")
    parser.add_argument("--length", type=int, default=40, help="target tokens of a request (default: 40)")
    parser.add_argument("--repeats", type=int, default=20, help="rounds of timing (default: 20)")
    parser.add_argument("--old", type=Path, metavar="FOLDER", help="a checkout to compare with")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(arguments.repeats)
        return
    sys.path.insert(0, str(ROOT))
    from bench.measure.common import print_header, print_table  # noqa: PLC0415 - a worker may be of another checkout

    settings = {"length": arguments.length, "repeats": arguments.repeats, "old": arguments.old is not None}
    print_header("The scheduler's time per step", settings)
    processes = [_start(ROOT, arguments.repeats)]
    if arguments.old:
        processes.append(_start(arguments.old.resolve(), arguments.repeats))
    lines: list[tuple[object, ...]] = []
    for search in SEARCHES:
        for rows in map(int, arguments.rows.split(",")):
            width = SEARCHES[search][0].get("beam_size", 1)
            if rows < width or (SEARCHES[search][1] and rows == 1):
                continue
            cells: list[object] = []
            for busy in (False, True):
                setting = {"search": search, "rows": rows, "length": arguments.length, "busy": busy}
                times = [_ask(process, setting) for process in processes]
                cells += [f"{value:.0f}" for value in times]
                cells += [f"{times[-1] / times[0]:.2f}"] if arguments.old else []
            lines.append((search, rows, rows // width, *cells))
    kinds = ("steady", "busy")
    columns = [f"{kind}, us" for kind in kinds]
    if arguments.old:
        columns = [name for kind in kinds for name in (f"{kind}, us", "old, us", "old / new")]
    print_table(("search", "rows", "requests", *columns), lines)
    for process in processes:
        process.terminate()


if __name__ == "__main__":
    main()
