"""The interface between scheduler and runner: the plan of a step and its result."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Integers = Sequence[int] | npt.NDArray[np.integer[Any]]
"""One number per row. The scheduler gives arrays, which are valid until the step is committed."""


class RowCopy(NamedTuple):
    """Copies a row's caches: the first `length` positions of self-attention, the first `cross` of cross-attention."""

    source: int
    target: int
    length: int
    cross: int = 0


@dataclass(frozen=True, slots=True)
class Join:
    """Encodes a source and writes its cross-attention keys and values into all of `rows`."""

    source: tuple[int, ...]
    rows: tuple[int, ...]


class Adjustment(NamedTuple):
    """Changes a logit before candidates are chosen.

    A positive logit is divided by `penalty`, any other is multiplied by it. Then `bias` is added.
    """

    row: int
    token: int
    penalty: float = 1.0
    bias: float = 0.0


class Adjustments:
    """The adjustments of a step as arrays, at most one for each pair of row and token."""

    __slots__ = ("bias", "index", "penalty")

    def __init__(
        self, index: npt.NDArray[np.int64], penalty: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
    ) -> None:
        """`index` is [adjustments, 2] with row and token; `penalty` and `bias` are [adjustments]."""
        self.index, self.penalty, self.bias = index, penalty, bias

    @classmethod
    def of(cls, adjustments: Iterable[Adjustment]) -> Adjustments:
        """Make the arrays from single adjustments."""
        each = list(adjustments)
        return cls(
            np.array([(a.row, a.token) for a in each], np.int64).reshape(-1, 2),
            np.array([a.penalty for a in each], np.float32),
            np.array([a.bias for a in each], np.float32),
        )

    def __len__(self) -> int:
        return len(self.penalty)

    def __iter__(self) -> Iterator[Adjustment]:
        """Iterate over single adjustments, for runners that use no arrays."""
        for (row, token), penalty, bias in zip(
            self.index.tolist(), self.penalty.tolist(), self.bias.tolist(), strict=True
        ):
            yield Adjustment(row, token, penalty, bias)


NO_ADJUSTMENTS = Adjustments.of(())


class Masks:
    """Restricts the candidates of rows to allowed tokens. Log-probabilities remain those over the whole vocabulary."""

    __slots__ = ("allowed", "rows")

    def __init__(self, rows: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]) -> None:
        """`rows` is [masks], each row at most once; `allowed` is [masks, vocabulary].

        A row of which no token is allowed has candidates with log-probability minus infinity alone.
        """
        self.rows, self.allowed = rows, allowed

    def __len__(self) -> int:
        return len(self.rows)


NO_MASKS = Masks(np.zeros(0, np.int64), np.zeros((0, 0), np.bool_))


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of the running batch, over rows 0 to `len(tokens) - 1`.

    The runner performs `copies` in order, as if one after the other, then `joins`, then one decoder step over all rows.
    """

    copies: Sequence[RowCopy]
    joins: Sequence[Join]
    tokens: Integers
    """Per row: the token to feed."""
    positions: Integers
    """Per row: its position, which is also the number of self-attention positions cached before this step."""
    source_lengths: Integers
    """Per row: valid positions of cross-attention."""
    num_candidates: int
    """Candidates wanted per row, except for `wide_rows`. Every row pays for it, so it is to be small."""
    adjustments: Adjustments = NO_ADJUSTMENTS
    num_steps: int = 1
    """Number of decoder steps. Each step after the first feeds every row the likeliest candidate of the step before, at
    the next position, or at the last position of the caches."""
    upcoming: Sequence[tuple[int, ...]] = ()
    """Sources that will join as soon as rows are free. A runner may encode them while the decoder runs."""
    masks: Masks = NO_MASKS
    """Restricts rows to allowed tokens, in addition to `adjustments`."""
    wide_rows: Integers = ()
    """Rows of which `num_wide_candidates` candidates are wanted, each at most once. The other rows do not pay for them.
    Whether a row is among them must depend on its own request alone: equal log-probabilities may stand in another
    order."""
    num_wide_candidates: int = 0

    @property
    def selects_rows(self) -> bool:
        """Whether there are rows whose candidates are searched apart from the others."""
        return len(self.wide_rows) > 0 or len(self.masks) > 0

    @property
    def num_rows(self) -> int:
        """Rows of the step."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class StepResult:
    """The candidates of each decoder step of a plan: per row, `num_candidates` candidates, likeliest first.

    Arrays are [rows, num_candidates]. A runner may overwrite them in its next step. Nested lists are allowed too.
    """

    token_ids: Any
    """Of the first step."""
    log_probs: Any
    """Natural log-probabilities of the first step, normalised over the whole vocabulary, after the adjustments."""
    encode_seconds: float = 0.0
    """Seconds in the encoder. On a GPU, only the time to queue its work; `decode_seconds` includes the wait for it."""
    decode_seconds: float = 0.0
    """Seconds in the decoder, over all steps."""
    later: Sequence[tuple[Any, Any]] = ()
    """Token ids and log-probabilities of the second and later steps, if the plan has several."""
    wide_ids: Any = None
    """[wide rows, num_wide_candidates], the candidates of the plan's `wide_rows`, in their order. Those in `token_ids`
    have no meaning for these rows. None if there are no such rows."""
    wide_log_probs: Any = None
    """The log-probabilities of `wide_ids`."""
    aligned: Sequence[Any] = ()
    """For every step, int64 [rows]: the source position that a row attends to most. Empty if the graphs give none."""

    @property
    def steps(self) -> Sequence[tuple[Any, Any]]:
        """Token ids and log-probabilities of every step."""
        return ((self.token_ids, self.log_probs), *self.later)


def with_wide_rows(plan: StepPlan, result: StepResult) -> tuple[Any, Any]:
    """Token ids and log-probabilities of the first step, with those of the plan's wide rows in their rows.

    Rows with fewer candidates are filled up with banned ones.
    """
    if not len(plan.wide_rows):
        return result.token_ids, result.log_probs
    return (
        _with_rows(plan, result.token_ids, result.wide_ids, 0),
        _with_rows(plan, result.log_probs, result.wide_log_probs, -np.inf),
    )


def _with_rows(plan: StepPlan, shared: Any, apart: Any, padding: float) -> npt.NDArray[Any]:
    """[rows, candidates]: `shared` of all rows, with `apart` in place of those of the wide rows."""
    shared, apart = np.asarray(shared), np.asarray(apart)
    merged = np.full((plan.num_rows, max(shared.shape[1], apart.shape[1])), padding, shared.dtype)
    merged[:, : shared.shape[1]] = shared
    merged[plan.wide_rows] = padding
    merged[plan.wide_rows, : apart.shape[1]] = apart
    return merged


class Runner(Protocol):
    """Runs the neural network for a lane. `tests/support/fake_runner.py` has a fake."""

    max_positions: int
    """Number of positions at which a row can be fed a token."""

    def prepare(self) -> None:
        """Do the work that would slow down the first steps. To be called once, on the thread that calls `run`."""
        ...

    def run(self, plan: StepPlan) -> StepResult:
        """Perform the steps of a plan.

        If it raises, no step of the plan counts, and the caches of its rows are lost.
        """
        ...

    def probe(self) -> None:
        """Perform a step without requests; raises if steps fail. The caches of all rows are lost."""
        ...

    def close(self) -> None:
        """Free the sessions and the caches."""
        ...
