"""The precisions of bundles: fp32, fp16 and int8, and the preparation of a model for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dragoman_export.builder import GraphBuilder
from dragoman_export.calibration import calibrate
from dragoman_export.equalise import equalised
from dragoman_export.fp16 import Fp16Builder, rounded_to_half
from dragoman_export.fp32 import Fp32Builder
from dragoman_export.int8 import Int8Builder
from dragoman_export.quantise import Rounding, quantised_model, quantised_weights
from dragoman_export.shelf import Shelf
from dragoman_export.stages import stage
from dragoman_export.weights import Weights, collect_weights
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.manifest import PRECISIONS
from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model that is prepared for a precision."""

    precision: str
    """One of `PRECISIONS`."""
    weights: Weights
    """The weights to write."""
    reference: Transformer
    """A PyTorch model with the same rounded numbers, which the graphs must agree with."""
    builder: type[GraphBuilder]
    """The class that builds the graphs."""
    unrounded: Transformer
    """The model of `reference` before its parameters were rounded."""
    rounding: Rounding
    """The rounding of activations."""
    calibration: tuple[Sequence[int], ...] = ()
    """Token ids of the sentences that the scales of `rounding` were measured on."""
    max_length: int = 0
    """Largest number of target tokens in this measurement."""
    forced: tuple[Sequence[int], ...] | None = None
    """Of each of these sentences, target ids that are fed before any is chosen."""
    shelf: Shelf = field(default_factory=Shelf)
    """Where the tensors of the models are kept."""


def prepare(
    model: Transformer,
    precision: str,
    sources: Sequence[Sequence[int]],
    max_length: int,
    forced: Sequence[Sequence[int]] | None = None,
    shelf: Shelf | None = None,
) -> Prepared:
    """Prepare a model for a precision.

    Args:
        model: In evaluation mode.
        precision: One of `PRECISIONS`.
        sources: Token ids of typical source sentences, on which the scales of int8 are measured.
        max_length: Largest number of target tokens in this measurement.
        forced: Of each source, target ids that are fed before any is chosen; None: none.
        shelf: Where the tensors of copies of the model are kept; None: in memory.
    """
    shelf = shelf or Shelf()
    if precision == "fp32":
        return Prepared(precision, collect_weights(model), model, Fp32Builder, model, Rounding(), shelf=shelf)
    if precision == "fp16":
        weights, reference = collect_weights(model, torch.float16), rounded_to_half(model, shelf)
        return Prepared(precision, weights, reference, Fp16Builder, model, Rounding(), shelf=shelf)
    with stage(f"calibration on {len(sources)} sentences", shelf):
        measured = calibrate(model, sources, max_length, forced)
    with stage("rounding to int8", shelf):
        balanced, ranges = equalised(model, measured, shelf)
        shelf.release()
        weights = quantised_weights(balanced, ranges)
        shelf.release()
        reference = quantised_model(balanced, ranges, shelf)
    return Prepared(
        precision,
        weights,
        reference,
        Int8Builder,
        balanced,
        Rounding.of(ranges, model.config.activation),
        tuple(sources),
        max_length,
        None if forced is None else tuple(forced),
        shelf=shelf,
    )


def check_precision(precision: str, calibration: Path | None, command: str) -> None:
    """Check the options of the precision.

    Args:
        precision: The precision.
        calibration: The file of sentences for the scales of int8.
        command: The command line for int8, with a placeholder for that file, for the error message.

    Raises:
        InvalidInput: the precision is unknown, or int8 has no calibration.
    """
    if precision not in PRECISIONS:
        raise InvalidInput("precision", precision, ", ".join(PRECISIONS))
    if precision == "int8" and calibration is None:
        allowed = f"for int8, a file of a few hundred typical source sentences of all kinds, one per line: {command}"
        raise InvalidInput("calibration", calibration, allowed)
