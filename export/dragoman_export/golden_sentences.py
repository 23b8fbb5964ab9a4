"""Making `golden.json`: translations that every machine must give, and so none that hang on a rounding."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

from dragoman_export.sources import Source
from dragoman_service.bundle.bundle import GoldenSentence
from dragoman_service.bundle.manifest import Manifest
from dragoman_service.engine.plan import Runner, StepPlan, StepResult
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.golden import request_for, translate

BEAM_SIZES = (1, 4)
LENGTH_PENALTY = 0.6
MAX_GOLDEN = 8
"""Sentences for each beam size, or as many as there are language pairs: enough to find a wrong kernel, few enough to
check at every start."""
MAX_LENGTH = 64
"""Target tokens at most; a model of random weights would go on to its limit."""
MAX_TRIED = 64
"""Sentences to choose from."""
JITTER = {"fp32": 2e-4, "fp16": 1e-2, "int8": 2e-2}
"""Log-probability, for each precision: about ten times what processors differ by. With int8, numbers that one processor
rounds up and another one down make for more."""
JITTERED_TRIALS = 3


class JitteredRunner(Runner):
    """A runner whose log-probabilities are a little off, as on a machine with other rounding, only more so."""

    def __init__(self, runner: Runner, jitter: float, max_candidates: int, seed: int) -> None:
        self._runner = runner
        self.max_positions = runner.max_positions
        self._jitter = jitter
        self._max_candidates = max_candidates
        self._random = random.Random(seed)

    def prepare(self) -> None:
        """Nothing to do."""

    def probe(self) -> None:
        """Nothing to do."""

    def run(self, plan: StepPlan) -> StepResult:
        """One step; candidates that lie close may change their order, and the last ones make room for the next."""
        wanted = min(plan.num_candidates + 4, self._max_candidates)
        result = self._runner.run(dataclasses.replace(plan, num_candidates=wanted))
        rows = [
            sorted(
                ((log_prob + self._random.uniform(-self._jitter, self._jitter), i) for log_prob, i in pairs),
                reverse=True,
            )
            for pairs in map(zip, result.log_probs, result.token_ids)
        ]
        kept = [row[: plan.num_candidates] for row in rows]
        return StepResult([[i for _, i in row] for row in kept], [[log_prob for log_prob, _ in row] for row in kept])

    def close(self) -> None:
        """Nothing of its own to free."""


def make_golden(
    runner: Runner, blanks: Sequence[GoldenSentence], *, max_rows: int, manifest: Manifest
) -> tuple[GoldenSentence, ...]:
    """Translate; keep the first of each beam size, up to `MAX_GOLDEN`, that come out the same under jitter.

    Args:
        runner: Of graphs that have been verified.
        blanks: Sentences and options, with nothing filled in yet: see `blank_sentences`.
        max_rows: Rows of the batch.
        manifest: Of the bundle in the making.

    Raises:
        InvalidInput: none of them does.
    """
    jitter, most = JITTER[manifest.precision], manifest.limits.max_candidates
    requests = [request_for(blank, i) for i, blank in enumerate(blanks)]
    found = translate(runner, requests, max_rows)
    trials = [
        translate(JitteredRunner(runner, jitter, most, seed), requests, max_rows) for seed in range(JITTERED_TRIALS)
    ]
    golden = [
        dataclasses.replace(blank, target_ids=best.tokens, token_scores=best.token_scores, score=best.score)
        for blank, best, *others in zip(blanks, found, *trials, strict=True)
        if all(other.tokens == best.tokens for other in others)
    ]
    if not golden:
        allowed = "at least one whose translation hangs on no rounding: give more of them, by --golden"
        raise InvalidInput("golden", f"{len({blank.source for blank in blanks})} sentences", allowed)
    kept = max(MAX_GOLDEN, len(manifest.language_pairs))
    return tuple(
        sentence
        for beam_size in BEAM_SIZES
        for sentence in [sentence for sentence in golden if sentence.beam_size == beam_size][:kept]
    )


def blank_sentences(sources: Sequence[Source], max_length: int) -> list[GoldenSentence]:
    """What to translate for `golden.json`: the first `MAX_TRIED` sentences, with every beam size."""
    return [
        GoldenSentence(source.text, source.ids, beam_size, LENGTH_PENALTY, max_length, (), (), 0.0)
        for beam_size in BEAM_SIZES
        for source in sources[:MAX_TRIED]
    ]


def golden_length(manifest: Manifest) -> int:
    """Target tokens of a golden sentence at most."""
    return min(MAX_LENGTH, manifest.limits.max_target_tokens)
