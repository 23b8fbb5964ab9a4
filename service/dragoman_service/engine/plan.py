"""The values that pass between scheduler and runner: what a step shall do, and what came of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Integers = Sequence[int] | npt.NDArray[np.integer[Any]]
"""One number per row. The scheduler gives arrays, which are valid until the step is committed."""


class RowCopy(NamedTuple):
    """Copy a row's caches: the first `length` positions of self-attention, the first `cross` of cross-attention."""

    source: int
    target: int
    length: int
    cross: int = 0


@dataclass(frozen=True, slots=True)
class Join:
    """Encode a source and write its cross-attention keys and values into every one of `rows`."""

    source: tuple[int, ...]
    rows: tuple[int, ...]


class Adjustment(NamedTuple):
    """Change a logit before candidates are chosen: divide by `penalty` if positive, else multiply; then add `bias`."""

    row: int
    token: int
    penalty: float = 1.0
    bias: float = 0.0


class Adjustments:
    """The adjustments of a step as arrays, at most one for a row and token."""

    __slots__ = ("bias", "index", "penalty")

    def __init__(
        self, index: npt.NDArray[np.int64], penalty: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]
    ) -> None:
        """Take `index` [adjustments, 2], row and token; `penalty` and `bias` [adjustments]."""
        self.index, self.penalty, self.bias = index, penalty, bias

    @classmethod
    def of(cls, adjustments: Iterable[Adjustment]) -> Adjustments:
        """The arrays of single adjustments."""
        each = list(adjustments)
        return cls(
            np.array([(a.row, a.token) for a in each], np.int64).reshape(-1, 2),
            np.array([a.penalty for a in each], np.float32),
            np.array([a.bias for a in each], np.float32),
        )

    def __len__(self) -> int:
        return len(self.penalty)

    def __iter__(self) -> Iterator[Adjustment]:
        """Each of them, for whoever does without arrays."""
        for (row, token), penalty, bias in zip(
            self.index.tolist(), self.penalty.tolist(), self.bias.tolist(), strict=True
        ):
            yield Adjustment(row, token, penalty, bias)


NO_ADJUSTMENTS = Adjustments.of(())


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of the running batch, which is always rows 0 to `len(tokens) - 1`.

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
    """Candidates wanted per row."""
    adjustments: Adjustments = NO_ADJUSTMENTS
    num_steps: int = 1
    """Decoder steps to make: each after the first feeds every row the likeliest candidate of the one before, at the
    next position, or at the last that there is."""
    upcoming: Sequence[tuple[int, ...]] = ()
    """Sources that will join as soon as there are rows: a runner may encode them while the decoder works."""

    @property
    def num_rows(self) -> int:
        """Rows of the step."""
        return len(self.tokens)


@dataclass(frozen=True, slots=True)
class StepResult:
    """What the first step gave: per row, `num_candidates` candidates, likeliest first; and then those after it.

    Arrays [rows, num_candidates], which a runner may overwrite in its next step; nested lists do as well.
    """

    token_ids: Any
    log_probs: Any
    """Natural log-probabilities over the whole vocabulary, after the adjustments."""
    encode_seconds: float = 0.0
    """On a GPU, the time to queue it: whatever is queued is waited for once, in `decode_seconds`."""
    decode_seconds: float = 0.0
    """Of all steps."""
    later: Sequence[tuple[Any, Any]] = ()
    """Token ids and log-probabilities of the second step and those after it, of a plan with several."""

    @property
    def steps(self) -> Sequence[tuple[Any, Any]]:
        """Token ids and log-probabilities of every step."""
        return ((self.token_ids, self.log_probs), *self.later)


class Runner(Protocol):
    """The seam between scheduling and the neural network; `tests/support` has a scripted fake."""

    max_positions: int
    """Positions at which a row can be fed a token."""

    def prepare(self) -> None:
        """Do what first steps would otherwise be held up by; once, on the thread that will call `run`."""
        ...

    def run(self, plan: StepPlan) -> StepResult:
        """Perform one step, or several in a row.

        An exception means that it has not happened, and that the caches of its rows are lost.
        """
        ...

    def probe(self) -> None:
        """Make a step for nobody; raises what is wrong if none can be made. The caches of all rows are lost."""
        ...

    def close(self) -> None:
        """Free the sessions and the caches."""
        ...
