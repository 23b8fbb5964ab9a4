"""Verification that the graphs compute what the PyTorch model computes.

**By parts** (`parts`). The written graphs are cut into parts: a norm, a linear layer, an attention, the output layer
with its adjustments. Every part is tested alone, with inputs that reveal errors (`states`). It is compared with the
same arithmetic in float64; with int8, the inputs are rounded with the scales of the bundle. Errors do not add up from
part to part. So the bounds are those of one part, and the bound of int8 is that of fp32. The largest deviations were

    fp32   4.1e-6 of the largest number of the row       allowed: 1e-4
    fp16   4.9e-4, half a unit of the last place         allowed: 2e-3
    int8   4.1e-6 of the largest number of the row       allowed: 1e-4
           6.2e-6 of a step of a cache, beyond the half  allowed: 1e-2

**Weights** (`stored`). The weights are read again from the file and compared with those of the checkpoint. They must be
equal, or, with int8 and fp16, the nearest number of the precision. Every tensor that a graph reads from the file must
be at the place of the tensor of its name: a comparison of numbers does not detect that two nearly equal biases are
exchanged. **Scales** (`scales`) are shared by the graphs and their reference. So they are compared with the
activations: nothing is clipped, and the whole range is used.

**As served** (`forced`). The runner and scheduler of the server translate real and random sentences in a full batch.
They are also run with given target tokens, and with random steps, in which rows join late, move, have tokens banned and
repetitions penalised. Here rounding errors add up over the layers, and with int8 a number between two integers may be
rounded to either. So these bounds detect large errors only, such as a row with another row's past. The largest values
were

          log-probability     divergence, mean     at one position
    fp32  2.5e-5 of 1e-3      2.0e-12 of 1e-6      5.2e-11 of 1e-5
    fp16  8.3e-3 of 0.1       1.5e-7 of 1e-4       4.3e-6 of 1e-3
    int8  0.35 of 1           3.5e-4 of 1e-3       4.8e-3 of 0.1

With int8, one activation that is rounded the other way changes all numbers that depend on it. The value at one position
is the largest of hundreds of positions. It was between 3e-3 and 1.7e-2, depending on the compared sentences and on
those of the calibration. A bound of 2e-2 would sooner or later refuse a correct graph. The bound of 0.1 is six times
the largest value.

**Quality**. On real sentences, the graphs are compared with the trained checkpoint in fp32, for every precision:
`Report.from_model`. The mean divergence of int8 was 3.0e-3 nats (en-de) and 1.2e-3 (de-en) of 0.05 allowed. It was
2.1e-2 for the worst of forty models with random weights, for which rounding matters most: the bound is 2.4 times that.
This comparison also detects errors that the graphs and their reference share.

All these values are those of both bundled models, over three seeds of states, random sources and steps, on the built-in
sentences. They are printed by

    python bench/proof.py deploy/models/en-de/1 deploy/models/de-en/1 --seeds 3

The models with random weights are those of `pytest -m slow tests/export/test_whole_export.py -k random -s`. It requires
that they stay below a third of the bounds of log-probabilities, and below a twentieth of those at one position.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TypeVar

import numpy as np
import torch

from dragoman_export.forced import (
    NO_DISTANCE,
    Differences,
    Distance,
    Pair,
    busy_distance,
    busy_plans,
    forced_log_probs,
    ordinary_ids,
)
from dragoman_export.parts import Deviation, deviations
from dragoman_export.precision import Prepared
from dragoman_export.report import BOUNDS, Report, VerificationError
from dragoman_export.scales import scale_problems
from dragoman_export.stages import stage
from dragoman_export.stored import stored_problems
from dragoman_model.evaluation.greedy import greedy_translations
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.engine.request import FinishReason, Request
from dragoman_service.errors import BundleError
from dragoman_service.runtime.golden import translate
from dragoman_service.runtime.runner import OrtRunner

__all__ = ["Report", "VerificationError", "verify_graphs"]

FORCED_ROWS = 8
"""Sentences of a batch whose distributions are compared."""
REAL_SENTENCES = 24
"""Largest number of real sentences whose distributions are compared."""
MOST_NUMBERS = 2**25
"""Log-probabilities of a batch that are in memory at a time: 128 MiB. Large vocabularies have fewer rows."""
T = TypeVar("T")


def verify_graphs(
    prepared: Prepared,
    model: Transformer,
    bundle: Bundle,
    sources: Sequence[Sequence[int]],
    *,
    max_rows: int,
    max_length: int,
    seed: int = 0,
    forced: Sequence[Sequence[int]] | None = None,
) -> Report:
    """Compare parts, weights, scales, distributions and greedy translations.

    Args:
        prepared: The model that the graphs were made from.
        model: The trained model, in evaluation mode.
        bundle: The bundle of the exported graphs.
        sources: Token ids of real sentences, each with the end of the sentence. Random ones are added.
        max_rows: Number of rows of the batch of the greedy translations.
        max_length: Largest number of target tokens.
        seed: The seed of the states of parts, and of random sources and steps.
        forced: Of each source, target ids that are fed before any is chosen, the same number for all; None: none.
    """
    limits, head, shelf = bundle.manifest.limits, bundle.manifest.alignment, prepared.shelf
    longest = (limits.max_source_tokens, limits.max_target_tokens)
    with stage("verification of scales and weights", shelf):
        problems = list(scale_problems(prepared))
        shelf.release()
        problems += _attempt(lambda: list(stored_problems(bundle.path, prepared)), [], problems)
    with stage("verification of the parts of the graphs", shelf):
        parts: list[Deviation] = _attempt(
            lambda: list(deviations(bundle.path, prepared, longest=longest, seed=seed, alignment=head)), [], problems
        )
    given = forced or [()] * len(sources)
    with stage(f"translation of {len(sources)} sentences with PyTorch", shelf):
        served = _Served(prepared, sources, given, min(max_rows, FORCED_ROWS), max_length, seed)
        same = served.expected[: len(sources)]
        if prepared.reference is not model:
            shelf.release()
            same = greedy_translations(model, sources, max_length, given)
    with stage("verification as served", shelf), closing(open_runner(bundle, max_rows)) as runner:
        translations: list[list[int]] = _attempt(lambda: served.translations(runner), [], problems)
        nowhere = (NO_DISTANCE, NO_DISTANCE)
        distance, from_model = _attempt(lambda: served.distances(runner, model), nowhere, problems)
        busy = _attempt(lambda: served.busy(runner), NO_DISTANCE, problems)
    ties, mismatches = _differences(prepared, served, translations)
    shelf.release()
    return Report(
        BOUNDS[prepared.precision],
        distance,
        from_model,
        len(served.everything),
        ties,
        mismatches,
        busy,
        _equalisation_error(prepared, model, served.real[:FORCED_ROWS]),
        sum(a == b for a, b in zip(same, translations, strict=False)) / len(sources),
        tuple(parts),
        tuple(problems),
    )


def open_runner(bundle: Bundle, max_rows: int) -> OrtRunner:
    """The graphs of a bundle, with the runner of the server. Raises VerificationError if they cannot be opened."""
    try:
        return OrtRunner(bundle, max_rows=max_rows, threads=1)
    except BundleError as error:
        raise VerificationError(f"the exported graphs cannot be opened: {'; '.join(error.problems)}") from error


class _Served:
    """The sentences to compare, and comparisons of the runner and the scheduler of the server."""

    def __init__(
        self,
        prepared: Prepared,
        sources: Sequence[Sequence[int]],
        forced: Sequence[Sequence[int]],
        rows: int,
        max_length: int,
        seed: int,
    ) -> None:
        """`rows` is the number of rows of the batches with given targets."""
        self._rows, self._max_length = rows, max_length
        self._model, self._shelf = prepared.reference, prepared.shelf
        self._rng = np.random.default_rng(seed)
        lengths = self._rng.integers(1, max(map(len, sources)) + 1, size=FORCED_ROWS)
        self._random = [self._random_source(int(length)) for length in lengths]
        self.everything = [*map(list, sources), *self._random]
        """Real sources, then random ones."""
        self.forced_ids = [*forced, *(forced[number % len(forced)] for number in range(len(self._random)))]
        """Of each of `everything`, target ids that are fed before any is chosen."""
        self.expected = greedy_translations(self._model, self.everything, max_length, self.forced_ids)
        """The reference's translations of `everything`."""
        # The begin token is fed before a target, so a target has one token less than the limit.
        targets: list[Sequence[int]] = [
            (*before, *target[: max_length - 1]) for before, target in zip(self.forced_ids, self.expected, strict=True)
        ]
        self.real: list[Pair] = list(zip(sources, targets, strict=False))[:REAL_SENTENCES]
        """The first real sources, with the reference's translations."""

    def translations(self, runner: OrtRunner) -> list[list[int]]:
        """Greedy translations of `everything`, in a batch of as many rows as the runner has."""
        requests = [
            Request(id=i, source=tuple(ids), max_length=self._max_length, forced=tuple(before))
            for i, (ids, before) in enumerate(zip(self.everything, self.forced_ids, strict=True))
        ]
        found = translate(runner, requests, runner.max_rows, runner.bundle.manifest.special_ids)
        return [
            # The server stops a translation that repeats itself without end; the reference goes on.
            [*it.tokens, *wanted[len(it.tokens) :]] if it.finish_reason is FinishReason.REPETITION else list(it.tokens)
            for it, wanted in zip(found, self.expected, strict=True)
        ]

    def distances(self, runner: OrtRunner, model: Transformer) -> tuple[Distance, Distance]:
        """The distance from the reference for `real` and random targets of random sources; from `model` for `real`.

        Random words do not show how close a precision is to the model in use.
        """
        made_up: list[Pair] = [(ids, self._random_ids(min(len(ids), self._max_length - 1))) for ids in self._random]
        of_reference, of_model = Differences(), Differences()
        of_row = (self._max_length + 1) * self._model.config.vocab_size
        rows = min(self._rows, max(2, MOST_NUMBERS // of_row))
        for pairs in (self.real, made_up):
            for group in (pairs[i : i + rows] for i in range(0, len(pairs), rows)):
                found = list(forced_log_probs(runner, group, self._model.config))
                of_reference.add_forced(self._model, group, found)
                self._shelf.release()
                if pairs is self.real:
                    of_model.add_forced(model, group, found)
                    self._shelf.release()
        return of_reference.distance(), of_model.distance()

    def busy(self, runner: OrtRunner) -> Distance:
        """The distance of the graphs from their reference, in steps of a busy batch."""
        plans = busy_plans(self._model, self.everything, self._rng, rows=self._rows, longest=self._max_length)
        return busy_distance(self._model, runner, plans)

    def _random_source(self, length: int) -> list[int]:
        config = self._model.config
        words = ordinary_ids(config)
        if config.source_embedding == "own":  # ids of another vocabulary
            words = np.setdiff1d(np.arange(config.source_words), [config.pad_id])
        return [int(i) for i in self._rng.choice(words, size=length)]

    def _random_ids(self, length: int) -> list[int]:
        return [int(i) for i in self._rng.choice(ordinary_ids(self._model.config), size=length)]


def _attempt(compute: Callable[[], T], otherwise: T, problems: list[str]) -> T:
    """The result of `compute`. If a graph cannot be read or run, the problem is added to `problems`.

    The result is `otherwise` then.
    """
    try:
        return compute()
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        problems.append(f"the graphs cannot be read or run: {' '.join(str(error).split())[:200]}")
        return otherwise


@torch.no_grad()
def _equalisation_error(prepared: Prepared, model: Transformer, pairs: Sequence[Pair]) -> float:
    """The largest difference in log-probability between the model and its equalised copy, before rounding."""
    if prepared.unrounded is model:
        return 0.0
    errors = [0.0]
    for source, target in pairs:
        ids, fed = torch.tensor([list(source)]), torch.tensor([[model.config.begin_id, *target]])
        log_probs = []
        for each in (prepared.unrounded, model):
            log_probs.append(each(ids, fed).log_softmax(-1))
            prepared.shelf.release()
        errors.append(float(log_probs[0].sub_(log_probs[1]).abs_().max()))
    return max(errors)


def _differences(
    prepared: Prepared, served: _Served, found: Sequence[Sequence[int]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Descriptions of the differences between translations: those because of a tie, and the others."""
    ties: list[str] = []
    mismatches: list[str] = []
    given = zip(served.everything, served.forced_ids, served.expected, found, strict=False)
    for source, before, wanted, got in given:
        if wanted != got:
            margin, where = _first_difference(prepared.reference, source, before, wanted, got)
            (ties if margin < BOUNDS[prepared.precision].tie_margin else mismatches).append(where)
    return tuple(ties), tuple(mismatches)


@torch.no_grad()
def _first_difference(
    model: Transformer, source: Sequence[int], before: Sequence[int], wanted: Sequence[int], got: Sequence[int]
) -> tuple[float, str]:
    """The first difference of two translations: how much likelier the model's own token is, and a description."""
    end = model.config.end_id
    both = list(zip([*wanted, end], [*got, end], strict=False))
    place = next(i for i, (a, b) in enumerate(both) if a != b)
    fed = torch.tensor([[model.config.begin_id, *before, *wanted[:place]]])
    logits = model(torch.tensor([list(source)]), fed)[0, -1]  # [V]
    ours, theirs = both[place]
    margin = float(logits[ours] - logits[theirs])
    where = f"source ids {list(source)}: token {place} is {theirs} instead of {ours}, by {margin:.2g} less likely"
    return margin, where
