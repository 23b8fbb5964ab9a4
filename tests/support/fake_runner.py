"""A fake runner without a neural network, but with caches: a wrong copy of a row gives wrong tokens.

Each row keeps its source and the tokens that it was fed, as the real caches keep values computed from these. The
candidates are a pseudo-random function of them. So a translation is right only if every copy, join, position and
adjustment of every plan is right.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import cache

from dragoman_service.engine.plan import Adjustment, StepPlan, StepResult

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
VOCAB_SIZE = 20
WORDS = range(4, VOCAB_SIZE)
_MASKED = (PAD, BEGIN, UNKNOWN)


@cache
def logits(source: tuple[int, ...], fed: tuple[int, ...]) -> tuple[float, ...]:
    """The logits of the token after `fed`, one per token of the vocabulary, pseudo-random between -3 and 3."""
    digest = hashlib.blake2b(repr((source, fed)).encode(), digest_size=2 * VOCAB_SIZE).digest()
    values = [int.from_bytes(digest[2 * token : 2 * token + 2], "big") / 65536 * 6 - 3 for token in range(VOCAB_SIZE)]
    values[END] += 1.0  # so that sentences end after about a dozen tokens
    return tuple(values)


def candidates(
    source: tuple[int, ...], fed: tuple[int, ...], adjustments: Sequence[Adjustment] = (), count: int = VOCAB_SIZE
) -> tuple[list[int], list[float]]:
    """The `count` likeliest tokens after `fed` and their log-probabilities; fewer if the vocabulary has no more."""
    values = list(logits(source, fed))
    for adjustment in adjustments:
        value = values[adjustment.token]
        value = value / adjustment.penalty if value > 0 else value * adjustment.penalty
        values[adjustment.token] = value + adjustment.bias
    allowed = [token for token in range(VOCAB_SIZE) if token not in _MASKED]
    total = sum(math.exp(values[token]) for token in allowed)
    if total == 0.0:
        return allowed[:count], [-math.inf] * min(count, len(allowed))
    best = sorted(allowed, key=lambda token: (-values[token], token))[:count]
    return best, [values[token] - math.log(total) for token in best]


class FakeRunner:
    """The fake runner, see the module. It asserts that every plan reads only positions that were written."""

    def __init__(
        self,
        max_rows: int,
        *,
        encode_seconds: float = 0.0,
        decode_seconds: float = 0.0,
        before_run: Callable[[StepPlan], None] = lambda plan: None,
    ) -> None:
        """`before_run` is called with every plan. It may record the plan, wait, or raise to fail the step."""
        self.plans: list[StepPlan] = []
        self.closed = False
        self.probes = 0
        self.max_positions = 2**20
        self.broken = False
        self._sources: list[tuple[int, ...]] = [()] * max_rows
        self._fed: list[list[int]] = [[] for _ in range(max_rows)]
        self._encode_seconds = encode_seconds
        self._decode_seconds = decode_seconds
        self._before_run = before_run

    def prepare(self) -> None:
        self.prepared_on = threading.get_ident()

    def run(self, plan: StepPlan) -> StepResult:
        self.plans.append(plan)
        self._before_run(plan)
        for copy in plan.copies:
            assert len(self._fed[copy.source]) >= copy.length, f"{copy}: positions that were never written"
            # Like the real caches, keep the positions after those copied.
            self._fed[copy.target][: copy.length] = self._fed[copy.source][: copy.length]
            if copy.cross:
                self._sources[copy.target] = self._sources[copy.source][: copy.cross]
        for join in plan.joins:
            for row in join.rows:
                self._sources[row] = join.source
        first, *later = self._steps(plan)
        return StepResult(
            *first,
            encode_seconds=self._encode_seconds if plan.joins else 0.0,
            decode_seconds=self._decode_seconds,
            later=tuple(later),
        )

    def _steps(self, plan: StepPlan) -> Iterator[tuple[list[list[int]], list[list[float]]]]:
        """Yield the candidates of each step. Later steps feed the likeliest candidates of the step before."""
        for _ in range(plan.num_steps):
            made = [self._step(plan, row) for row in range(len(plan.tokens))]
            yield [token_ids for token_ids, _ in made], [log_probs for _, log_probs in made]
            positions = tuple(position + 1 for position in plan.positions)
            plan = dataclasses.replace(plan, tokens=tuple(token_ids[0] for token_ids, _ in made), positions=positions)

    def _step(self, plan: StepPlan, row: int) -> tuple[list[int], list[float]]:
        fed, position = self._fed[row], int(plan.positions[row])
        assert position <= len(fed), f"row {row} skips from position {len(fed)} to {position}"
        fed[position : position + 1] = [int(plan.tokens[row])]
        adjustments = [adjustment for adjustment in plan.adjustments if adjustment.row == row]
        source = self._sources[row][: plan.source_lengths[row]]
        return self._candidates(source, tuple(fed[: position + 1]), adjustments, plan)

    def _candidates(
        self, source: tuple[int, ...], fed: tuple[int, ...], adjustments: Sequence[Adjustment], plan: StepPlan
    ) -> tuple[list[int], list[float]]:
        """The candidates of a row. `support.worlds` has others."""
        return candidates(source, fed, adjustments, plan.num_candidates)

    def probe(self) -> None:
        self.probes += 1
        if self.broken:
            raise MemoryError("a step without requests failed")

    def close(self) -> None:
        self.closed = True
