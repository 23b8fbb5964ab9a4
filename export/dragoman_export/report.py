"""What the proof of an export found, and what is allowed: see `verify` for how, and for where the bounds come from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dragoman_export.forced import NO_DISTANCE, Distance
from dragoman_export.parts import Deviation
from dragoman_service.errors import DragomanError


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far the graphs may be from the same numbers in PyTorch, which round in another order."""

    log_prob_error: float
    """Of any id at any position."""
    divergence: float
    """Mean over positions of the Kullback-Leibler divergence of the distributions, in nats."""
    worst: float
    """The same of any single position."""
    tie_margin: float
    """Two candidates closer than this in log-probability are a tie, which rounding may break either way."""
    part: float
    """Of a part, in units of the largest number of a row: see `parts.Deviation`."""
    step: float = 1e-2
    """Of what is kept in 8 bits, in steps."""


BOUNDS = {
    "fp32": Bounds(log_prob_error=1e-3, divergence=1e-6, worst=1e-5, tie_margin=1e-3, part=1e-4),
    "fp16": Bounds(log_prob_error=0.1, divergence=1e-4, worst=1e-3, tie_margin=0.05, part=2e-3),
    "int8": Bounds(log_prob_error=1.0, divergence=1e-3, worst=0.1, tie_margin=0.3, part=1e-4),
}
"""Of each precision. `verify` says what was measured, with which command, and why int8 has more room."""
MAX_DIVERGENCE_FROM_MODEL = 0.02
"""Of a precision from the model itself, in nats, mean over positions: more, and it is no longer the model that was
trained. It is 17 times what the bundled models in int8 measure, and 1.7 times the worst of forty of random weights."""
MAX_EQUALISATION_ERROR = 1e-3
"""Log-probability that bringing channels to a like size, before they are rounded, may change."""


class VerificationError(DragomanError):
    """The graphs disagree with the model; the message says by how much."""

    reason = "verification_failed"


@dataclass(frozen=True, slots=True)
class Report:
    """How well the graphs agree with the same numbers in PyTorch, and with the trained model."""

    bounds: Bounds
    distance: Distance
    """Of the graphs from their reference."""
    from_model: Distance
    """Of the graphs from the trained checkpoint in fp32, on real sentences."""
    sentences: int
    """Translated greedily by both."""
    ties: tuple[str, ...]
    """Where the two translations part at a tie."""
    mismatches: tuple[str, ...]
    """Where they part without such excuse."""
    busy: Distance = NO_DISTANCE
    """Of the graphs from their reference, in steps of a busy batch: see `forced.busy_plans`."""
    equalisation_error: float = 0.0
    """Log-probability that was changed before rounding."""
    same_translations: float = 1.0
    """Share of the real sentences that the trained checkpoint in fp32 translates to the same tokens."""
    parts: tuple[Deviation, ...] = ()
    """Of all parts of both graphs."""
    problems: tuple[str, ...] = ()
    """What is wrong beside numbers."""

    def largest(self, *, in_steps: bool) -> Deviation:
        """The part that is furthest off; one of no error if there is none of the kind."""
        kind = [part for part in self.parts if part.in_steps == in_steps]
        return max(kind, key=lambda part: np.inf if np.isnan(part.error) else part.error, default=Deviation("", 0.0))

    def check(self) -> None:
        """Raises VerificationError unless all is within bounds."""
        bounds, part, step = self.bounds, self.largest(in_steps=False), self.largest(in_steps=True)
        measured = (
            ("log-probabilities differ by", self.distance.log_prob_error, bounds.log_prob_error),
            (f"{part.part} differs, in units of its row, by", part.error, bounds.part),
            (f"{step.part} is rounded wrongly, in steps, by", step.error, bounds.step),
            ("distributions diverge by", self.distance.divergence, bounds.divergence),
            ("distributions at one position diverge by", self.distance.worst, bounds.worst),
            ("log-probabilities of a busy batch differ by", self.busy.log_prob_error, bounds.log_prob_error),
            ("distributions of a busy batch diverge by", self.busy.worst, bounds.worst),
            (
                "distributions diverge from the trained model by",
                self.from_model.divergence,
                MAX_DIVERGENCE_FROM_MODEL,
            ),
            ("equalisation changes log-probabilities by", self.equalisation_error, MAX_EQUALISATION_ERROR),
        )
        problems = [
            f"{what} {got:.2g}; allowed: {allowed:.2g}" for what, got, allowed in measured if not got <= allowed
        ]  # so that NaN fails
        problems += [*self.problems, *self.mismatches]
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise VerificationError("the exported graphs disagree with the model: " + "; ".join(problems[:5]) + more)
