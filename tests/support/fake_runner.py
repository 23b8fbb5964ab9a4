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
from typing import TypeAlias

from dragoman_service.engine.plan import Adjustment, StepPlan, StepResult

PAD, BEGIN, END, UNKNOWN = 0, 1, 2, 3
VOCAB_SIZE = 20
WORDS = range(4, VOCAB_SIZE)
Candidates: TypeAlias = tuple[list[int], list[float]]
"""Tokens, likeliest first, and their log-probabilities."""
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
) -> Candidates:
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


def _restricted(made: Candidates, allowed: Sequence[bool]) -> Candidates:
    """Candidates of a row that may have `allowed` tokens alone. The others come last, with log-probability -inf."""
    pairs = [(token, log_prob + (0.0 if allowed[token] else -math.inf)) for token, log_prob in zip(*made, strict=True)]
    pairs.sort(key=lambda pair: not allowed[pair[0]])
    return [token for token, _ in pairs], [log_prob for _, log_prob in pairs]


def _firsts(made: Sequence[Candidates], count: int) -> tuple[list[list[int]], list[list[float]]]:
    """The first `count` candidates of each row."""
    return [token_ids[:count] for token_ids, _ in made], [log_probs[:count] for _, log_probs in made]


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
        seconds = {
            "encode_seconds": self._encode_seconds if plan.joins else 0.0,
            "decode_seconds": self._decode_seconds,
        }
        first, *later = self._steps(plan)
        result = StepResult(*_firsts(first, plan.num_candidates), **seconds)
        if later:
            assert not plan.selects_rows
            assert not len(plan.adjustments)
            steps = tuple(_firsts(made, plan.num_candidates) for made in later)
            return dataclasses.replace(result, later=steps)
        if len(plan.wide_rows):
            ids, log_probs = _firsts([first[row] for row in plan.wide_rows], plan.num_wide_candidates)
            for row in plan.wide_rows:  # these have no meaning
                result.token_ids[row] = [PAD] * len(result.token_ids[row])
                result.log_probs[row] = [math.nan] * len(result.log_probs[row])
            return dataclasses.replace(result, wide_ids=ids, wide_log_probs=log_probs)
        return result

    def _steps(self, plan: StepPlan) -> Iterator[list[Candidates]]:
        """Yield all candidates of each step, by row. Later steps feed the likeliest ones of the step before."""
        for _ in range(plan.num_steps):
            made = [self._step(plan, row) for row in range(len(plan.tokens))]
            yield made
            positions = tuple(position + 1 for position in plan.positions)
            plan = dataclasses.replace(plan, tokens=tuple(token_ids[0] for token_ids, _ in made), positions=positions)

    def _step(self, plan: StepPlan, row: int) -> Candidates:
        fed, position = self._fed[row], int(plan.positions[row])
        assert position <= len(fed), f"row {row} skips from position {len(fed)} to {position}"
        fed[position : position + 1] = [int(plan.tokens[row])]
        adjustments = [adjustment for adjustment in plan.adjustments if adjustment.row == row]
        source = self._sources[row][: plan.source_lengths[row]]
        made = self._candidates(source, tuple(fed[: position + 1]), adjustments)
        masks = dict(zip(plan.masks.rows.tolist(), plan.masks.allowed.tolist(), strict=True))
        return _restricted(made, masks[row]) if row in masks else made

    def _candidates(
        self, source: tuple[int, ...], fed: tuple[int, ...], adjustments: Sequence[Adjustment]
    ) -> Candidates:
        """All candidates of a row. `support.worlds` has others."""
        return candidates(source, fed, adjustments)

    def probe(self) -> None:
        self.probes += 1
        if self.broken:
            raise MemoryError("a step without requests failed")

    def close(self) -> None:
        self.closed = True
