"""What a decoder step costs when one of its rows wants many candidates or is restricted to some tokens.

    python bench/selection.py --model bundled --precision int8

The kinds of steps take turns. Times are those of the thread that computes, so that waiting for a busy processor does
not count. `everyone` is a step in which all rows have as many candidates as the row that wants most.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from argparse import ArgumentParser
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.measure.common import base_parser, interleaved, print_header, print_table, ratio
from bench.peers.models import bundle_path
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.plan import Join, Masks, StepPlan
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.runner import OrtRunner

SOURCE_TOKENS, POSITION = 25, 15
STEPS = 10
"""Steps in each turn."""
PLAIN = "greedy"


def plans(rows: int, vocab_size: int) -> dict[str, StepPlan]:
    """Name -> a step in the middle of a translation."""
    greedy = StepPlan((), (), (5,) * rows, (POSITION,) * rows, (SOURCE_TOKENS,) * rows, num_candidates=1)
    allowed = np.ones((rows, vocab_size), np.bool_)
    allowed[:, ::2] = False

    def masked(count: int) -> StepPlan:
        return dataclasses.replace(greedy, masks=Masks(np.arange(count), allowed[:count]))

    def wide(count: int, candidates: int) -> StepPlan:
        return dataclasses.replace(greedy, wide_rows=range(count), num_wide_candidates=candidates)

    return {
        PLAIN: greedy,
        "everyone: 8 candidates": dataclasses.replace(greedy, num_candidates=8),
        "everyone: 32 candidates": dataclasses.replace(greedy, num_candidates=32),
        "everyone: 64 candidates": dataclasses.replace(greedy, num_candidates=64),
        "everyone: 256 candidates": dataclasses.replace(greedy, num_candidates=256),
        "one wide row of 65": wide(1, 65),
        "one wide row of 256": wide(1, 256),
        "all rows wide, 65": wide(rows, 65),
        "one row with a mask": masked(1),
        "all rows with masks": masked(rows),
    }


def argument_parser() -> ArgumentParser:
    """The command line."""
    parser = base_parser(__doc__)
    parser.add_argument("--rows", type=int, default=32, help="default: 32")
    parser.add_argument("--bundle", type=Path, help="a bundle to measure in place of --model")
    return parser


def main() -> int:
    """Run from the command line."""
    args = argument_parser().parse_args()
    try:
        bundle = Bundle.load(args.bundle or bundle_path(args.model, args.precision, args.cache, forced=True))
    except InvalidInput as error:
        print(f"selection.py: {error}", file=sys.stderr)
        return 1
    runner = OrtRunner(bundle, max_rows=args.rows, threads=1)
    steps = plans(args.rows, bundle.manifest.vocab_size)
    joins = tuple(Join((5,) * SOURCE_TOKENS, (row,)) for row in range(args.rows))
    runner.run(dataclasses.replace(steps[PLAIN], joins=joins))

    def seconds(plan: StepPlan) -> float:
        started = time.thread_time()
        for _ in range(STEPS):
            runner.run(plan)
        return (time.thread_time() - started) / STEPS

    times = interleaved({name: lambda plan=plan: seconds(plan) for name, plan in steps.items()}, args.repeats)
    runner.close()
    settings = {"rows": args.rows, "vocabulary": bundle.manifest.vocab_size, "rounds": args.repeats}
    print_header(f"Rows that are searched apart, {bundle.manifest.name}, {bundle.manifest.precision}", settings)
    lines = [(name, timing.median * 1e6, ratio(timing, times[PLAIN])) for name, timing in times.items()]
    print_table(("step", "us", f"over {PLAIN}"), lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
