"""Calibration: the ranges of a model's activations, measured during translation. Int8 scales are computed from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dragoman_model.evaluation.greedy import greedy_translations
from dragoman_model.transformer import Transformer


@dataclass(frozen=True, slots=True)
class Ranges:
    """The largest absolute values of activations, per channel."""

    inputs: dict[str, Tensor]
    """Name of an `nn.Linear`, or `output` for the product with the embedding matrix -> range of its input, [in]."""
    outputs: dict[str, Tensor]
    """Name of a projection of keys or values -> range of its output, [D]."""


@torch.no_grad()
def calibrate(
    model: Transformer,
    sources: Sequence[Sequence[int]],
    max_length: int,
    forced: Sequence[Sequence[int]] | None = None,
) -> Ranges:
    """Translate sentences greedily and measure the ranges.

    Args:
        model: In evaluation mode.
        sources: Token ids of typical source sentences, each with the end of the sentence. A few hundred of all kinds
            are needed: larger numbers than these sentences give will be clipped.
        max_length: Largest number of target tokens.
        forced: Of each source, target ids that are fed before any is chosen, the same number for all; None: none.
    """
    given = [()] * len(sources) if forced is None else forced
    targets = greedy_translations(model, sources, max_length, given)
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
            _widen(inputs, name, given[0])
            if name.endswith((".key", ".value")):
                _widen(outputs, name, result)

        return hook

    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    handles = [module.register_forward_hook(watch(name)) for name, module in linears]
    try:
        for source, before, target in zip(sources, given, targets, strict=True):
            # One at a time, because the activations of padding must not widen a range.
            batch = torch.tensor([list(source)])
            fed = torch.tensor([[model.config.begin_id, *before, *target]])
            decoded = model.decode(fed, model.project_cross(model.encode(batch)), model.source_mask(batch))
            _widen(inputs, "output", decoded)
    finally:
        for handle in handles:
            handle.remove()
    return Ranges(inputs, outputs)


def _widen(ranges: dict[str, Tensor], name: str, x: Tensor) -> None:
    largest = x.flatten(0, -2).abs().amax(0)
    ranges[name] = torch.maximum(ranges[name], largest) if name in ranges else largest
