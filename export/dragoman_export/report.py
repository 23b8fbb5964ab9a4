"""The results of the verification of an export, and their bounds. `verify` explains the measurements and bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dragoman_export.forced import NO_DISTANCE, Distance
from dragoman_export.parts import Deviation
from dragoman_service.errors import DragomanError


@dataclass(frozen=True, slots=True)
class Bounds:
    """Bounds of the differences between the graphs and their PyTorch reference, which rounds in another order."""

    log_prob_error: float
    """Bound of the difference of a log-probability, of any id at any position."""
    divergence: float
    """Bound of the Kullback-Leibler divergence of the distributions, mean over positions, in nats."""
    worst: float
    """Bound of the divergence at any position, in nats."""
    tie_margin: float
    """Two candidates that are closer than this in log-probability are a tie: rounding may decide between them."""
    part: float
    """Bound of a part, in units of the largest number of a row; see `parts.Deviation`."""
    step: float = 1e-2
    """Bound of an 8-bit cache, in steps; see `parts.Deviation`."""


BOUNDS = {
    "fp32": Bounds(log_prob_error=1e-3, divergence=1e-6, worst=1e-5, tie_margin=1e-3, part=1e-4),
    "fp16": Bounds(log_prob_error=0.1, divergence=1e-4, worst=1e-3, tie_margin=0.05, part=2e-3),
    "int8": Bounds(log_prob_error=1.0, divergence=1e-3, worst=0.1, tie_margin=0.3, part=1e-4),
}
"""Precision -> bounds. `verify` has the measured values and the command, and explains why int8 has larger bounds."""
MAX_DIVERGENCE_FROM_MODEL = 0.05
"""Bound of the divergence of the graphs from the trained model in fp32, in nats, mean over positions. It is 17 times
the value of the bundled int8 models, and 2.4 times that of the worst of forty models with random weights."""
MAX_EQUALISATION_ERROR = 1e-3
"""Bound of the change of a log-probability by channel equalisation, before rounding."""


class VerificationError(DragomanError):
    """The graphs disagree with the model. The message has the differences."""

    reason = "verification_failed"


@dataclass(frozen=True, slots=True)
class Report:
    """The differences between the graphs, their PyTorch reference (`Prepared.reference`) and the trained model."""

    bounds: Bounds
    distance: Distance
    """The distance of the graphs from their reference."""
    from_model: Distance
    """The distance of the graphs from the trained checkpoint in fp32, on real sentences."""
    sentences: int
    """Number of sentences that the graphs and the reference translated greedily."""
    ties: tuple[str, ...]
    """Descriptions of translations that differ because of a tie."""
    mismatches: tuple[str, ...]
    """Descriptions of translations that differ without a tie."""
    busy: Distance = NO_DISTANCE
    """The distance of the graphs from their reference in steps of a busy batch; see `forced.busy_plans`."""
    equalisation_error: float = 0.0
    """The largest change of a log-probability by channel equalisation."""
    same_translations: float = 1.0
    """Share of the real sentences that the trained checkpoint in fp32 translates to the same tokens."""
    parts: tuple[Deviation, ...] = ()
    """The deviations of all parts of both graphs."""
    problems: tuple[str, ...] = ()
    """Other problems, such as graphs that cannot be run."""

    def largest(self, *, in_steps: bool) -> Deviation:
        """The largest deviation of the kind `in_steps`; one without error if there is none."""
        kind = [part for part in self.parts if part.in_steps == in_steps]
        return max(kind, key=lambda part: np.inf if np.isnan(part.error) else part.error, default=Deviation("", 0.0))

    def check(self) -> None:
        """Raise VerificationError if a value is out of bounds or there is another problem."""
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
        ]  # `not <=`, so that NaN is refused
        problems += [*self.problems, *self.mismatches]
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise VerificationError("the exported graphs disagree with the model: " + "; ".join(problems[:5]) + more)
