"""Proof that the graphs compute what the PyTorch model computes, through the same runner and scheduler that serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from dragoman_export.precision import Prepared
from dragoman_model.greedy import greedy_cached
from dragoman_model.reference_decode import NEVER_PRODUCED, mask_logits
from dragoman_model.transformer import Transformer
from dragoman_service.errors import DragomanError
from dragoman_service.golden import translate
from dragoman_service.plan import Join, Runner, StepPlan
from dragoman_service.request import Request
from dragoman_service.tokenizer import SPECIAL_IDS

TORCH_BATCH = 64
"""Sentences that PyTorch translates side by side."""
FORCED_ROWS = 8
"""Sentences whose whole distributions are compared side by side."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the graphs may be from the same numbers in PyTorch, which round in another order."""

    log_prob_error: float
    """Of any id at any position."""
    divergence: float
    """Mean over positions of the Kullback-Leibler divergence of the distributions, in nats."""
    tie_margin: float
    """Two candidates closer than this in log-probability are a tie, which rounding may break either way."""


BOUNDS = {
    # A wrong node is off by far more, and rounding by a hundredth of it.
    "fp32": Bounds(log_prob_error=1e-3, divergence=1e-6, tie_margin=1e-3),
    # Sums of thousands of numbers of eleven bits: off by a few units of the last.
    "fp16": Bounds(log_prob_error=0.1, divergence=1e-4, tie_margin=0.05),
    # A number that falls between two integers may be rounded to either, and what follows from it is then off by a step:
    # rare, but in single numbers large. The divergence tells it from a wrong node.
    "int8": Bounds(log_prob_error=1.0, divergence=1e-3, tie_margin=0.3),
}
MAX_DIVERGENCE_FROM_MODEL = 0.05
"""Of a precision from the model itself, in nats: more, and it is no longer the model that was trained."""


class VerificationError(DragomanError):
    """The graphs disagree with the model; the message says by how much."""

    reason = "verification_failed"


@dataclass(frozen=True, slots=True)
class Distance:
    """Between two models' distributions of the next token, over all positions of the sentences compared."""

    log_prob_error: float
    """The largest, of any id."""
    divergence: float
    """Kullback-Leibler, mean over positions, in nats."""
    agreement: float
    """Share of positions at which both hold the same token the likeliest."""


@dataclass(frozen=True, slots=True)
class Report:
    """How well the graphs agree with the same numbers in PyTorch, and these with the model."""

    bounds: Bounds
    distance: Distance
    """Of the graphs from their reference."""
    from_model: Distance
    """Of the graphs from the model in fp32."""
    sentences: int
    """Translated greedily by both."""
    ties: tuple[str, ...]
    """Where the two translations part at a tie."""
    mismatches: tuple[str, ...]
    """Where they part without such excuse."""

    def check(self) -> None:
        """Raises VerificationError unless all is within bounds."""
        problems = list(self.mismatches)
        for what, got, allowed in (
            ("log-probabilities differ by", self.distance.log_prob_error, self.bounds.log_prob_error),
            ("distributions diverge by", self.distance.divergence, self.bounds.divergence),
            (
                "distributions diverge from the unquantised model by",
                self.from_model.divergence,
                MAX_DIVERGENCE_FROM_MODEL,
            ),
        ):
            if not got <= allowed:  # so that NaN fails
                problems.insert(0, f"{what} {got:.2g}; allowed: {allowed:.2g}")
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise VerificationError("the exported graphs disagree with the model: " + "; ".join(problems[:5]) + more)


def verify_graphs(
    prepared: Prepared,
    model: Transformer,
    runner: Runner,
    sources: Sequence[Sequence[int]],
    *,
    max_rows: int,
    max_length: int,
) -> Report:
    """Compare distributions and greedy translations.

    Args:
        prepared: What the graphs were made from.
        model: In evaluation mode.
        runner: Of the exported graphs.
        sources: Token ids of real sentences, their ends last. Random ones are added.
        max_rows: Rows of the crowded batch.
        max_length: Target tokens at most.
    """
    reference, bounds = prepared.reference, BOUNDS[prepared.precision]
    rng = np.random.default_rng(0)
    lengths = rng.integers(1, max(map(len, sources)) + 1, size=FORCED_ROWS)
    random_sources = [_random_ids(rng, model, int(length)) for length in lengths]
    everything = [*map(list, sources), *random_sources]
    expected = [
        tokens
        for start in range(0, len(everything), TORCH_BATCH)
        for tokens in greedy_cached(reference, everything[start : start + TORCH_BATCH], max_length)
    ]
    requests = [Request(id=i, source=tuple(ids), max_length=max_length) for i, ids in enumerate(everything)]
    found = [list(hypothesis.tokens) for hypothesis in translate(runner, requests, max_rows)]
    parted = [
        (source, wanted, got) for source, wanted, got in zip(everything, expected, found, strict=True) if wanted != got
    ]
    ties: list[str] = []
    mismatches: list[str] = []
    for source, wanted, got in parted:
        margin, where = _margin_where_they_part(reference, source, wanted, got)
        (ties if margin < bounds.tie_margin else mismatches).append(where)
    compared = min(max_rows, FORCED_ROWS)
    real_pairs = [  # a target is fed behind the begin of the sentence, hence one token less than there may be
        (ids, target[: max_length - 1]) for ids, target in zip(everything, expected[:compared], strict=False)
    ]
    random_pairs = [(ids, _random_ids(rng, model, min(len(ids), max_length - 1))) for ids in random_sources]
    groups = [real_pairs, *(random_pairs[i : i + compared] for i in range(0, len(random_pairs), compared))]
    forced = [(group, list(forced_log_probs(runner, group, model.config.vocab_size))) for group in groups]
    # How near int8 comes to the model shows in what people write, not in random words.
    return Report(
        bounds,
        _distance(reference, forced),
        _distance(model, forced[:1]),
        len(everything),
        tuple(ties),
        tuple(mismatches),
    )


def forced_log_probs(
    runner: Runner, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], vocab_size: int
) -> Iterator[npt.NDArray[np.float64]]:
    """The distributions of the next token while each row is fed its target, whatever it would have chosen.

    Args:
        runner: Of the exported graphs.
        pairs: Source ids and target ids of each row.
        vocab_size: Ids that there are.

    Yields:
        For every position from 0 to the longest target's length: log-probabilities [rows, vocab_size], minus infinity
        for what is never produced. Rows whose target has ended go on with padding, which no other row notices.
    """
    rows, pad = len(pairs), SPECIAL_IDS["pad_id"]
    joins = tuple(Join(tuple(source), (row,)) for row, (source, _) in enumerate(pairs))
    fed = [[SPECIAL_IDS["begin_id"], *target] for _, target in pairs]
    for position in range(max(map(len, fed))):
        tokens = tuple(ids[position] if position < len(ids) else pad for ids in fed)
        lengths = tuple(len(source) for source, _ in pairs)
        candidates = vocab_size - len(NEVER_PRODUCED)
        plan = StepPlan((), joins if position == 0 else (), tokens, (position,) * rows, lengths, candidates)
        result = runner.run(plan)
        ids = np.array(result.token_ids)
        log_probs = np.full((rows, max(vocab_size, int(ids.max()) + 1)), -np.inf)
        np.put_along_axis(log_probs, ids, np.array(result.log_probs), axis=1)
        yield log_probs


@torch.no_grad()
def _distance(
    model: Transformer,
    forced: Sequence[tuple[Sequence[tuple[Sequence[int], Sequence[int]]], Sequence[npt.NDArray[np.float64]]]],
) -> Distance:
    """Of what `forced_log_probs` gave for groups of pairs from what a model in PyTorch says of them."""
    errors, divergences, agreements = [], [], []
    for pairs, found in forced:
        for row, (source, target) in enumerate(pairs):
            fed = torch.tensor([[SPECIAL_IDS["begin_id"], *target]])  # [1, T]
            logits = mask_logits(model(torch.tensor([list(source)]), fed))[0]  # [T, V]
            expected = logits.log_softmax(-1).double().numpy()
            got = np.stack([log_probs[row] for log_probs in found[: len(expected)]])
            possible = np.isfinite(expected)
            if not np.array_equal(possible, np.isfinite(got)):  # nor if there are ids beyond the vocabulary
                return Distance(float("inf"), float("inf"), 0.0)
            difference = np.zeros_like(expected)
            difference[possible] = expected[possible] - got[possible]
            errors.append(float(np.abs(difference).max()))
            divergences += (np.exp(expected) * difference).sum(-1).tolist()
            agreements += (expected.argmax(-1) == got.argmax(-1)).tolist()
    return Distance(max(errors), float(np.mean(divergences)), float(np.mean(agreements)))


@torch.no_grad()
def _margin_where_they_part(
    model: Transformer, source: Sequence[int], wanted: Sequence[int], got: Sequence[int]
) -> tuple[float, str]:
    """How much the model prefers its own choice at the first difference; and a description of it."""
    end = SPECIAL_IDS["end_id"]
    both = list(zip([*wanted, end], [*got, end], strict=False))
    place = next(i for i, (a, b) in enumerate(both) if a != b)
    fed = torch.tensor([[SPECIAL_IDS["begin_id"], *wanted[:place]]])
    logits = model(torch.tensor([list(source)]), fed)[0, -1]  # [V]
    ours, theirs = both[place]
    margin = float(logits[ours] - logits[theirs])
    where = f"source ids {list(source)}: token {place} is {theirs} instead of {ours}, by {margin:.2g} less likely"
    return margin, where


def _random_ids(rng: np.random.Generator, model: Transformer, length: int) -> list[int]:
    first = max(SPECIAL_IDS.values()) + 1
    return [int(i) for i in rng.integers(first, model.config.vocab_size, size=length)]
