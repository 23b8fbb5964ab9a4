"""Golden sentences (`golden.json`): translations that every machine must reproduce.

Sentences whose translation depends on the rounding of a machine are left out.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence

from dragoman_export.sources import MOST_PAIRS, Source
from dragoman_service.bundle.bundle import GoldenSentence
from dragoman_service.bundle.manifest import Manifest
from dragoman_service.engine.plan import Runner, StepPlan, StepResult
from dragoman_service.errors import InvalidInput
from dragoman_service.runtime.golden import request_for, translate

BEAM_SIZES = (1, 4)
LENGTH_PENALTY = 0.6
MAX_GOLDEN = 8
"""Largest number of sentences for each beam size; the number of language pairs that an export translates, if that is
larger. They are enough to find a wrong kernel, and few enough to be checked at every start."""
MAX_LENGTH = 64
"""Largest number of target tokens. A model with random weights would produce tokens up to its own limit."""
MAX_TRIED = 64
"""Number of sentences to choose from."""
JITTER = {"fp32": 2e-4, "fp16": 1e-2, "int8": 2e-2}
"""Precision -> largest random change of a log-probability, about ten times the differences between processors. It is
larger for int8, where one processor may round a number up that another one rounds down."""
JITTERED_TRIALS = 3
"""Number of translations with jitter."""


class JitteredRunner(Runner):
    """A runner that adds random numbers to log-probabilities, to imitate a machine with other rounding."""

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
        """Execute a step. Close candidates may change their order, and the last ones may be replaced by the next."""
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
        """Nothing to do: the wrapped runner is not closed."""


def make_golden(
    runner: Runner, blanks: Sequence[GoldenSentence], *, max_rows: int, manifest: Manifest
) -> tuple[GoldenSentence, ...]:
    """Translate sentences, and keep the first of each beam size whose translation does not change with jitter.

    Args:
        runner: The runner of verified graphs.
        blanks: Sentences and options without translations; see `blank_sentences`.
        max_rows: Number of rows of the batch.
        manifest: The manifest of the bundle.

    Raises:
        InvalidInput: the translations of all sentences change with jitter.
    """
    languages = manifest.languages
    kept = max(MAX_GOLDEN, MOST_PAIRS if languages.sources else len(languages))
    golden: list[GoldenSentence] = []
    for beam_size in BEAM_SIZES:
        rest = [blank for blank in blanks if blank.beam_size == beam_size]
        found: list[GoldenSentence] = []
        while rest and len(found) < kept:
            found += _stable(runner, rest[:kept], max_rows, manifest)
            rest = rest[kept:]
        golden += found[:kept]
    if not golden:
        allowed = "at least one whose translation does not depend on rounding: give more sentences with --golden"
        raise InvalidInput("golden", f"{len({blank.source for blank in blanks})} sentences", allowed)
    return tuple(golden)


def _stable(
    runner: Runner, blanks: Sequence[GoldenSentence], max_rows: int, manifest: Manifest
) -> Iterator[GoldenSentence]:
    """Translate sentences, and yield those whose translation does not change with jitter."""
    jitter, most = JITTER[manifest.precision], manifest.limits.max_candidates
    requests = [request_for(blank, i, manifest) for i, blank in enumerate(blanks)]
    runners = [runner, *(JitteredRunner(runner, jitter, most, seed) for seed in range(JITTERED_TRIALS))]
    found, *trials = [translate(each, requests, max_rows, manifest.special_ids) for each in runners]
    for blank, best, *others in zip(blanks, found, *trials, strict=True):
        if all(other.tokens == best.tokens for other in others):
            yield dataclasses.replace(blank, target_ids=best.tokens, token_scores=best.token_scores, score=best.score)


def blank_sentences(sources: Sequence[Source], max_length: int) -> list[GoldenSentence]:
    """The sentences to translate, without translations: the first `MAX_TRIED` ones, with every beam size."""
    return [
        GoldenSentence(
            source.text, source.ids, beam_size, LENGTH_PENALTY, max_length, (), (), 0.0, source.forced, source.languages
        )
        for beam_size in BEAM_SIZES
        for source in sources[:MAX_TRIED]
    ]


def golden_length(manifest: Manifest) -> int:
    """The largest number of target tokens of a golden sentence."""
    return min(MAX_LENGTH, manifest.limits.max_target_tokens)
