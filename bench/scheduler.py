"""How long the scheduler takes for a step: all the Python there is between two runs of the decoder.

A script stands in for the neural network. A full batch is stepped in two ways: `steady`, where nobody comes or goes,
and `busy`, where translations are of many lengths, and whoever has waited joins as soon as rows are free. The times are
means over the steps of a round, in microseconds; of the rounds, the median.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.common import int_list, print_header, print_table
from dragoman_service.engine.plan import StepPlan, StepResult
from dragoman_service.engine.request import DecodingOptions, Request
from dragoman_service.engine.scheduler import Scheduler

BEGIN, END = 1, 2
WORDS = range(4, 32_000)
SCRIPTED_RESULTS = 32


@dataclass(frozen=True, slots=True)
class Setting:
    """What is measured in one line of the table."""

    rows: int
    beam_size: int
    length: int
    """Target tokens of a request; when busy, the mean of them."""
    source_length: int
    stream: bool
    busy: bool


class ScriptedRunner:
    """Gives results that were made beforehand, in turn. Nothing in them ends a sentence: requests end by length."""

    def __init__(self, rows: int, num_candidates: int) -> None:
        rng = random.Random(0)
        self._results = cycle(
            StepResult(
                token_ids=[rng.sample(WORDS, k=num_candidates) for _ in range(rows)],
                log_probs=[
                    sorted((-rng.expovariate(0.5) for _ in range(num_candidates)), reverse=True) for _ in range(rows)
                ],
            )
            for _ in range(SCRIPTED_RESULTS)
        )

    def prepare(self) -> None:
        """Nothing to do."""

    def run(self, plan: StepPlan) -> StepResult:
        """The next result, whatever the plan."""
        return next(self._results)


def time_round(setting: Setting) -> tuple[float, float]:
    """Mean seconds of `plan` and of `commit`, over the steps of one round in which the batch is full."""
    rng = random.Random(1)
    num_requests = setting.rows // setting.beam_size
    scheduler = Scheduler(
        max_rows=setting.rows, max_queue=num_requests, begin_id=BEGIN, end_id=END, max_encode_tokens=1_000_000
    )
    runner = ScriptedRunner(setting.rows, 1 if setting.beam_size == 1 else 2 * setting.beam_size)
    options = DecodingOptions(beam_size=setting.beam_size)
    ids = count()
    planning = committing = 0.0
    for step in range(setting.length):
        while scheduler.num_waiting < num_requests and (setting.busy or not step):
            spread = setting.length - 1 if setting.busy else 0
            length = setting.length + rng.randint(-spread, spread)
            source = (WORDS[0],) * setting.source_length
            scheduler.add(Request(next(ids), source, length, options, stream=setting.stream), now=0.0)
        started = time.perf_counter()
        plan = scheduler.plan()
        planned = time.perf_counter()
        assert plan is not None
        result = runner.run(plan)
        ran = time.perf_counter()
        scheduler.commit(plan, result, now=0.0)
        if 0 < step < setting.length - 1:  # when steady, all join in the first step and leave in the last
            planning += planned - started
            committing += time.perf_counter() - ran
    return planning / (setting.length - 2), committing / (setting.length - 2)


def measure(setting: Setting, repeats: int) -> tuple[float, float]:
    """Microseconds of `plan` and of `commit`."""
    rounds = [time_round(setting) for _ in range(repeats)]
    plan, commit = (statistics.median(values) * 1e6 for values in zip(*rounds, strict=True))
    return plan, commit


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int_list, default=[1, 8, 32, 64], help="rows of the batch (default: 1,8,32,64)")
    parser.add_argument("--beam-size", type=int, default=4, help="for the lines that are not greedy (default: 4)")
    parser.add_argument("--length", type=int, default=40, help="target tokens of a request (default: 40)")
    parser.add_argument("--source-length", type=int, default=30, help="source tokens of a request (default: 30)")
    parser.add_argument("--stream", action="store_true", help="all requests ask for their tokens as they come")
    parser.add_argument("--repeats", type=int, default=20, help="rounds of timing (default: 20)")
    return parser


def main() -> None:
    """Measure, and print the table."""
    arguments = argument_parser().parse_args()
    print_header("The scheduler's time per step", vars(arguments))
    lines: list[tuple[object, ...]] = []
    for beam_size in (1, arguments.beam_size):
        for rows in arguments.rows:
            if rows < beam_size:
                continue
            times: list[float] = []
            for busy in (False, True):
                setting = Setting(rows, beam_size, arguments.length, arguments.source_length, arguments.stream, busy)
                plan, commit = measure(setting, arguments.repeats)
                times += [plan, commit, plan + commit]
            lines.append((rows // beam_size, "greedy" if beam_size == 1 else f"beam {beam_size}", rows, *times))
    columns = [f"{kind}: {part}" for kind in ("steady", "busy") for part in ("plan", "commit", "both, us")]
    print_table(["requests", "search", "rows", *columns], lines)


if __name__ == "__main__":
    main()
