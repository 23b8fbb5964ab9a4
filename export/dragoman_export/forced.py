"""Comparison of the graphs' distributions of the next token with those of PyTorch.

The tokens are given (teacher forcing): whole sentences, or random steps as the scheduler makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from dragoman_model.config import ModelConfig
from dragoman_model.evaluation.reference_decode import mask_logits
from dragoman_model.evaluation.torch_runner import TorchRunner
from dragoman_model.transformer import Transformer
from dragoman_service.engine.plan import (
    NO_MASKS,
    Adjustment,
    Adjustments,
    Join,
    Masks,
    RowCopy,
    Runner,
    StepPlan,
    StepResult,
)

Pair = tuple[Sequence[int], Sequence[int]]
"""Source ids and target ids."""
STEPS = 14
"""Number of steps of `busy_plans`."""
_POSITIONS = 8
"""Positions that are compared at a time: a vocabulary may have hundreds of thousands of words."""


@dataclass(frozen=True, slots=True)
class Distance:
    """The distance between the distributions of the next token of two models, over all compared positions."""

    log_prob_error: float
    """The largest difference of a log-probability, of any id at any position."""
    divergence: float
    """The Kullback-Leibler divergence, mean over positions, in nats."""
    agreement: float
    """The share of positions at which both have the same likeliest token."""
    worst: float = 0.0
    """The largest divergence at one position, in nats."""


NO_DISTANCE = Distance(float("inf"), float("inf"), 0.0, float("inf"))
"""The distance if the graphs cannot be run."""


def forced_log_probs(runner: Runner, pairs: Sequence[Pair], config: ModelConfig) -> Iterator[npt.NDArray[np.float32]]:
    """Run the graphs with teacher forcing.

    Args:
        runner: The runner of the exported graphs.
        pairs: Source ids and target ids of each row.
        config: The configuration of the model.

    Yields:
        For every position from 0 to the length of the longest target: log-probabilities of the next token, [rows, V].
        They are minus infinity for ids that are never produced. A row whose target has ended is fed
        padding, which does not affect the other rows.
    """
    rows = len(pairs)
    joins = tuple(Join(tuple(source), (row,)) for row, (source, _) in enumerate(pairs))
    fed = [[config.begin_id, *target] for _, target in pairs]
    for position in range(max(map(len, fed))):
        tokens = tuple(ids[position] if position < len(ids) else config.pad_id for ids in fed)
        lengths = tuple(len(source) for source, _ in pairs)
        candidates = config.vocab_size - len(config.banned_ids)
        plan = StepPlan((), joins if position == 0 else (), tokens, (position,) * rows, lengths, candidates)
        result = runner.run(plan)
        yield _by_id(result.token_ids, result.log_probs, config.vocab_size)


def busy_distance(model: Transformer, runner: Runner, plans: Sequence[StepPlan]) -> Distance:
    """The distance of a runner from a PyTorch model, over step plans that both execute."""
    torch_runner = TorchRunner(model, max_rows=max(len(plan.tokens) for plan in plans))
    differences = Differences()
    vocab_size = model.config.vocab_size
    for plan in plans:
        expected = torch_runner.run(plan)
        wanted = [_by_id(ids, log_probs, vocab_size) for ids, log_probs in _all_candidates(expected)]
        found = runner.run(plan)
        got = [_by_id(ids, log_probs, vocab_size) for ids, log_probs in _all_candidates(found)]
        for one, other in zip(wanted, got, strict=True):
            differences.add(one, other)
    return differences.distance()


def busy_plans(
    model: Transformer, sources: Sequence[Sequence[int]], rng: np.random.Generator, *, rows: int, longest: int
) -> list[StepPlan]:
    """Random step plans of a busy batch.

    Rows join late and are at different positions. Rows are copied over others with their past, as in beam search, with
    or without their source. Tokens are banned and repetitions penalised. Candidates of some rows are searched apart,
    and some rows may have some words only.

    Args:
        model: The model, for the size of the vocabulary.
        sources: Source ids to draw from.
        rng: The random number generator.
        rows: Number of rows of the batch.
        longest: Largest number of target positions.
    """
    config = model.config
    words = ordinary_ids(config)
    histories: list[list[int]] = [[] for _ in range(rows)]
    of_row = [0] * rows
    plans = []
    for step in range(STEPS):
        copies, joins = [], []
        for row in range(rows) if step and rows > 1 and step % 3 == 0 else ():
            source = int(rng.integers(rows))
            if source != row and rng.random() < 0.4 and histories[source]:
                cross = len(sources[of_row[source]]) if of_row[row] != of_row[source] else 0
                copies.append(RowCopy(source, row, len(histories[source]), cross))
                histories[row], of_row[row] = list(histories[source]), of_row[source]
        for row in range(rows):
            if step == 0 or len(histories[row]) == longest or rng.random() < 0.1:
                of_row[row] = int(rng.integers(len(sources)))
                joins.append(Join(tuple(sources[of_row[row]]), (row,)))
                histories[row] = []
        for history in histories:
            history.append(int(rng.choice(words)) if history else config.begin_id)
        plan = StepPlan(
            tuple(copies),
            tuple(joins),
            tuple(history[-1] for history in histories),
            tuple(len(history) - 1 for history in histories),
            tuple(len(sources[index]) for index in of_row),
            config.vocab_size - len(config.banned_ids),
            Adjustments.of(_adjustments(histories, rng)),
            masks=_masks(rows, config.vocab_size, words, rng) if step % 2 else NO_MASKS,
            wide_rows=tuple(row for row in range(rows) if row % 3 == step % 3),
            num_wide_candidates=config.vocab_size - len(config.banned_ids),
        )
        plans.append(plan)
    return plans


def _masks(rows: int, vocab_size: int, words: npt.NDArray[np.int64], rng: np.random.Generator) -> Masks:
    """Random allowed words of a third of the rows."""
    chosen = rng.permutation(rows)[: -(-rows // 3)].astype(np.int64)
    allowed = np.zeros((len(chosen), vocab_size), np.bool_)
    for each in allowed:
        each[rng.choice(words, size=int(rng.integers(1, len(words))), replace=False)] = True
    return Masks(chosen, allowed)


def ordinary_ids(config: ModelConfig) -> npt.NDArray[np.int64]:
    """The ids that a translation may contain, without the end of the sentence."""
    return np.setdiff1d(np.arange(config.vocab_size), [*config.banned_ids, config.end_id])


def _adjustments(histories: Sequence[Sequence[int]], rng: np.random.Generator) -> Iterator[Adjustment]:
    for row, history in enumerate(histories):
        for token in sorted(set(history[1:])):
            banned = rng.random() < 0.3
            yield Adjustment(row, token, bias=-np.inf) if banned else Adjustment(row, token, penalty=1.5)


class Differences:
    """Accumulates the differences between distributions."""

    def __init__(self) -> None:
        self._errors: list[float] = []
        self._divergences: list[float] = []
        self._agreements: list[bool] = []

    @torch.no_grad()
    def add_forced(
        self, model: Transformer, pairs: Sequence[Pair], found: Sequence[npt.NDArray[np.floating[Any]]]
    ) -> None:
        """Add the log-probabilities of a PyTorch model, and `found`, the result of `forced_log_probs`, for pairs."""
        for row, (source, target) in enumerate(pairs):
            ids = torch.tensor([list(source)])
            states = model.decoder_states(ids, torch.tensor([[model.config.begin_id, *target]]))  # [1, T, D]
            for start, some in enumerate(torch.split(states, _POSITIONS, dim=1)):
                logits = mask_logits(model.project_output(some), model.config)[0]  # [positions, V]
                places = range(start * _POSITIONS, start * _POSITIONS + len(logits))
                self.add(logits.log_softmax(-1).numpy(), np.stack([found[place][row] for place in places]))

    def add(self, expected: npt.NDArray[np.floating[Any]], got: npt.NDArray[np.floating[Any]]) -> None:
        """Add log-probabilities [positions, V] of both models."""
        expected, got = expected.astype(np.float64), got.astype(np.float64)
        possible = np.isfinite(expected)
        if not np.array_equal(possible, np.isfinite(got)):  # also if `got` is wider because of unknown ids
            self._errors.append(float("inf"))
            self._divergences.append(float("inf"))
            return
        difference = np.zeros_like(expected)
        difference[possible] = expected[possible] - got[possible]
        self._errors.append(float(np.abs(difference).max()))
        # Rows that may have some words only are normalised over these, or their divergence would be no divergence.
        probabilities = np.exp(expected)
        of_possible = probabilities.sum(-1, keepdims=True)
        probabilities /= of_possible
        shift = np.log(of_possible / np.exp(got).sum(-1, keepdims=True))
        self._divergences += (probabilities * (difference - shift)).sum(-1).tolist()
        self._agreements += (expected.argmax(-1) == got.argmax(-1)).tolist()

    def distance(self) -> Distance:
        """The distance over all added positions."""
        if not self._errors:
            return NO_DISTANCE
        agreement = float(np.mean(self._agreements)) if self._agreements else 0.0
        return Distance(max(self._errors), float(np.mean(self._divergences)), agreement, max(self._divergences))


def _all_candidates(result: StepResult) -> Iterator[tuple[Any, Any]]:
    """Ids and log-probabilities of all rows of a step, and of its wide rows."""
    yield result.token_ids, result.log_probs
    if result.wide_ids is not None:
        yield result.wide_ids, result.wide_log_probs


def _by_id(token_ids: Any, given: Any, vocab_size: int) -> npt.NDArray[np.float32]:
    """Candidates as log-probabilities [rows, vocab_size]: minus infinity for ids that are no candidates.

    The result is wider if an id is beyond the vocabulary.
    """
    ids, given = np.asarray(token_ids), np.asarray(given, np.float32)
    words = max(vocab_size, int(ids[given != -np.inf].max(initial=0)) + 1)
    # Candidates with minus infinity may have any id: they go to an extra column, which is cut off.
    log_probs = np.full((len(ids), words + 1), -np.inf, np.float32)
    np.put_along_axis(log_probs, np.where(given == -np.inf, words, ids), given, axis=1)
    return log_probs[:, :words]
