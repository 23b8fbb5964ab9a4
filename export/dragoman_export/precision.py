"""The numbers that a bundle computes with: which there are, and what makes the graphs of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from dragoman_export.builder import GraphBuilder
from dragoman_export.calibration import calibrate
from dragoman_export.equalise import equalised
from dragoman_export.fp16 import Fp16Builder, rounded_to_half
from dragoman_export.fp32 import Fp32Builder
from dragoman_export.int8 import Int8Builder
from dragoman_export.quantise import Rounding, quantised_model, quantised_weights
from dragoman_export.weights import Weights, collect_weights
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.manifest import PRECISIONS
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model made ready for a precision."""

    precision: str
    """One of `PRECISIONS`."""
    weights: Weights
    """What is written."""
    reference: Transformer
    """The same numbers in PyTorch: what the graphs must agree with."""
    builder: type[GraphBuilder]
    """What writes the graphs."""
    unrounded: Transformer
    """What `reference` rounds the parameters of."""
    rounding: Rounding
    """How activations are rounded."""
    calibration: tuple[Sequence[int], ...] = ()
    """What the scales of `rounding` were measured on: token ids of sentences."""
    max_length: int = 0
    """Target tokens at most in doing so."""


def prepare(model: Transformer, precision: str, sources: Sequence[Sequence[int]], max_length: int) -> Prepared:
    """Make a model ready to be written.

    Args:
        model: In evaluation mode.
        precision: One of `PRECISIONS`.
        sources: Token ids of sentences such as the model will be given, from which int8 learns its scales.
        max_length: Target tokens at most in doing so.
    """
    if precision == "fp32":
        return Prepared(precision, collect_weights(model), model, Fp32Builder, model, Rounding())
    if precision == "fp16":
        weights, reference = collect_weights(model, torch.float16), rounded_to_half(model)
        return Prepared(precision, weights, reference, Fp16Builder, model, Rounding())
    balanced, ranges = equalised(model, calibrate(model, sources, max_length))
    weights, reference = quantised_weights(balanced, ranges), quantised_model(balanced, ranges)
    rounding = Rounding.of(ranges)
    return Prepared(precision, weights, reference, Int8Builder, balanced, rounding, tuple(sources), max_length)


def check_precision(precision: str, calibration: Path | None, command: str) -> None:
    """Refuse what cannot be exported.

    Args:
        precision: Asked for.
        calibration: The file of sentences that int8 learns its scales from.
        command: What to type for int8, with a place for that file.

    Raises:
        InvalidInput: names what can.
    """
    if precision not in PRECISIONS:
        raise InvalidInput("precision", precision, ", ".join(PRECISIONS))
    if precision == "int8" and calibration is None:
        allowed = (
            "for int8, a file of a few hundred source sentences of all kinds that the model will be given, one a line: "
            f"{command}"
        )
        raise InvalidInput("calibration", calibration, allowed)
