"""The values that pass between scheduler and runner: what a step shall do, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from dragoman_service.engine.plan import NO_MASKS, Masks


class RowCopy(NamedTuple):
    """Copy a row's caches: the first `length` positions of self attention, and the source side if `cross`."""

    source: int
    target: int
    length: int
    cross: int


Mask: TypeAlias = tuple[bool, ...]
"""Whether each token is allowed."""


def masks_of(masks: Mapping[int, Mask]) -> Masks:
    """The masks of rows as runners take them."""
    return Masks(np.array(list(masks), np.int64), np.array(list(masks.values()), np.bool_))


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


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One step of the running batch, which is always rows 0 to `len(tokens) - 1`.

    The runner performs `copies` in order, as if one after the other, then `joins`, then one decoder step over all rows.
    """

    copies: tuple[RowCopy, ...]
    joins: tuple[Join, ...]
    tokens: tuple[int, ...]
    """Per row: the token to feed."""
    positions: tuple[int, ...]
    """Per row: its position, which is also the number of self-attention positions cached before this step."""
    source_lengths: tuple[int, ...]
    """Per row: valid positions of cross attention."""
    num_candidates: int
    """Candidates wanted per row."""
    adjustments: tuple[Adjustment, ...] = ()
    num_steps: int = 1
    """Decoder steps to make: each after the first feeds every row the likeliest candidate of the one before, at the
    next position, or at the last that there is."""
    upcoming: tuple[tuple[int, ...], ...] = ()
    """Sources that will join as soon as there are rows: whoever can may encode them while the decoder works."""
    masks: Masks = NO_MASKS
    wide_rows: tuple[int, ...] = ()
    """There are none: every row has the candidates of the one that wants most."""

    @property
    def selects_rows(self) -> bool:
        """Whether rows have masks."""
        return len(self.masks) > 0


@dataclass(frozen=True, slots=True)
class StepResult:
    """What the first step gave: per row, `num_candidates` candidates, likeliest first; and then those after it."""

    token_ids: list[list[int]]
    log_probs: list[list[float]]
    """Natural log-probabilities over the whole vocabulary, after the adjustments."""
    encode_seconds: float = 0.0
    """On a GPU, to queue it: whatever is queued is waited for once, in `decode_seconds`."""
    decode_seconds: float = 0.0
    """Of all steps."""
    later: tuple[tuple[list[list[int]], list[list[float]]], ...] = ()
    """Token ids and log-probabilities of the second step and those after it, of a plan with several."""

    @property
    def steps(self) -> tuple[tuple[list[list[int]], list[list[float]]], ...]:
        """Token ids and log-probabilities of every step."""
        return ((self.token_ids, self.log_probs), *self.later)


class Runner(Protocol):
    """The seam between scheduling and the neural network; `tests/support` has a scripted fake."""

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
