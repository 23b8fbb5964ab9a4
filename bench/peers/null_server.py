"""`dragoman serve` with a model that costs no processor time, so that what is left is Python and gRPC.

A step sleeps for `DRAGOMAN_NULL_STEP` seconds (default 0.001). A translation has as many tokens as its source. The
module also runs with an older checkout on the path.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import numpy as np

STEP_SECONDS = float(os.environ.get("DRAGOMAN_NULL_STEP", "0.001"))
END_ID, FIRST_WORD, MAX_CANDIDATES = 2, 300, 1024


class NullRunner:
    """Ends every translation at the length of its source."""

    max_positions = 1024

    def __init__(self, rows: int, step_result: Any, *, in_lists: bool) -> None:
        self._lengths = np.ones(rows, np.int64)
        self._result = step_result
        self._in_lists = in_lists
        self._words = np.tile(np.arange(FIRST_WORD, FIRST_WORD + MAX_CANDIDATES), (rows, 1))
        self._log_probs = np.tile(-0.1 - 3.0 * np.arange(MAX_CANDIDATES, dtype=np.float32), (rows, 1))

    def prepare(self) -> None:
        """Do nothing."""

    def probe(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""

    def run(self, plan: Any) -> Any:
        """Perform the steps of a plan: the likeliest candidate is a word, or at the end of the source the end."""
        for join in plan.joins:
            self._lengths[list(join.rows)] = len(join.source)
        for copy in plan.copies:
            self._lengths[copy.target] = self._lengths[copy.source]
        positions = np.asarray(plan.positions)
        steps = []
        for step in range(getattr(plan, "num_steps", 1)):
            # Another word at every place: what repeats itself without end would be stopped.
            token_ids = self._words[: len(positions), : plan.num_candidates] + (positions[:, None] + step) * 61 % 997
            token_ids[positions + step >= self._lengths[: len(positions)], 0] = END_ID
            steps.append((token_ids, self._log_probs[: len(positions), : plan.num_candidates]))
            time.sleep(STEP_SECONDS)
        if self._in_lists:
            steps = [(ids.tolist(), log_probs.tolist()) for ids, log_probs in steps]
        first, *later = steps
        more = {"later": later} if later else {}
        return self._result(*first, 0.0, STEP_SECONDS * len(steps), **more)


def _replace_runners() -> None:
    try:
        from dragoman_service.engine.plan import StepResult  # noqa: PLC0415
        from dragoman_service.repository import loading  # noqa: PLC0415

        in_lists = False
    except ImportError:  # an older checkout
        from dragoman_service.plan import StepResult  # type: ignore[import-not-found,no-redef] # noqa: PLC0415

        from dragoman_service import loading  # type: ignore[attr-defined,no-redef] # noqa: PLC0415

        in_lists = True

    def make_runners(bundle: Any, config: Any, device: Any, division: Any, metrics: Any) -> list[NullRunner]:
        return [NullRunner(division.rows, StepResult, in_lists=in_lists) for _ in range(division.lanes)]

    loading.make_runners = make_runners  # type: ignore[assignment]


def _run_part(arguments: list[str]) -> int:
    from dragoman_service.cli import part  # noqa: PLC0415

    return part.main(arguments)


if __name__ == "__main__":
    _replace_runners()
    if sys.argv[1:2] == ["part"]:
        sys.exit(_run_part(sys.argv[2:]))
    try:
        from dragoman_service.cli import serve

        serve.part_command = (sys.executable, __file__, "part")
    except ImportError:  # an older checkout
        pass
    try:
        from dragoman_service.cli.main import main
    except ImportError:  # an older checkout
        from dragoman_service.cli import main  # type: ignore[no-redef,assignment]

    sys.exit(main(sys.argv[1:]))
