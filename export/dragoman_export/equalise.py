"""Channel equalisation: rescales a model's channels so that its activations need fewer bits. The results are the same.

In int8, one scale serves all channels of an activation, so a channel with large numbers takes precision from the
others. Some activations are made by an operation with a factor for each channel (the gain of a layer norm, the rows of
a matrix), and are read by matrices only. There the factors can be divided by a scale, and the matrices multiplied by
it. In exact arithmetic this changes nothing (Nagel et al. 2019, section 4.1; Xiao et al. 2023, equation 4).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from dragoman_export.calibration import Ranges
from dragoman_export.shelf import Shelf, copied, put
from dragoman_model.transformer import Transformer

STRENGTH = 0.5
"""How much of the differences between channels moves from the activations (0) to the weights (1)."""
_SMALLEST = 1e-5
"""Lower bound of ranges, so that a channel without activity gets no zero scale."""


@torch.no_grad()
def equalised(model: Transformer, ranges: Ranges, shelf: Shelf) -> tuple[Transformer, Ranges]:
    """A copy of `model` with the same results and with channels of more equal range; and the new ranges.

    What changes is kept on `shelf`, and the copy shares all else with `model`.
    """
    model = copied(model)
    inputs, outputs = dict(ranges.inputs), dict(ranges.outputs)
    modules = dict(model.named_modules())
    for name in dict.fromkeys(name for origin, readers in _producers(model) for name in (origin, *readers)):
        for leaf in ("weight", "bias"):
            put(modules[name], leaf, shelf.keep(getattr(modules[name], leaf)))
    for origin, readers in _producers(model):
        producer = modules[origin]
        matrices = [modules[reader] for reader in readers]
        scale = _scale(ranges.inputs[readers[0]], [_weight(matrix) for matrix in matrices])  # [channels]
        _weight(producer).div_(scale if isinstance(producer, nn.LayerNorm) else scale[:, None])
        _bias(producer).div_(scale)
        for matrix in matrices:
            _weight(matrix).mul_(scale)
        inputs |= {reader: inputs[reader] / scale for reader in readers}
        if origin in outputs:
            outputs[origin] = outputs[origin] / scale
    return model, Ranges(inputs, outputs)


def _producers(model: Transformer) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the module that makes an activation, and the `nn.Linear` that read it. Nothing else may read it."""
    stacks = {"encoder": model.config.encoder_layers, "decoder": model.config.decoder_layers}
    for layer in (f"{stack}.{index}" for stack, layers in stacks.items() for index in range(layers)):
        # A positive scale passes through ReLU, and from the values of an attention to its output.
        if model.config.activation == "relu":
            yield f"{layer}.feed_forward.inner", (f"{layer}.feed_forward.outer",)
        for attention in ("self_attention", "cross_attention") if layer.startswith("decoder") else ("self_attention",):
            yield f"{layer}.{attention}.value", (f"{layer}.{attention}.output",)
        if model.config.norm == "post":
            continue  # with post-norm, the output of a layer norm is the residual stream, which is also added to
        parts = tuple(f"{layer}.self_attention.{part}" for part in ("query", "key", "value"))
        yield f"{layer}.self_attention_residual.norm", parts
        yield f"{layer}.feed_forward_residual.norm", (f"{layer}.feed_forward.inner",)
        if layer.startswith("decoder"):
            yield f"{layer}.cross_attention_residual.norm", (f"{layer}.cross_attention.query",)
    if model.config.ends_with_norm:
        layers = range(model.config.decoder_layers)
        memory = [f"decoder.{layer}.cross_attention.{part}" for layer in layers for part in ("key", "value")]
        yield "encoder_norm", tuple(memory)


def _scale(activation: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """The divisor of each channel of an activation. Their geometric mean is 1."""
    weight = torch.cat(list(weights)).abs().amax(0)
    scale = activation.clamp(min=_SMALLEST) ** STRENGTH / weight.clamp(min=_SMALLEST) ** (1 - STRENGTH)
    return scale / scale.log().mean().exp()


def _weight(module: nn.Module) -> Tensor:
    assert isinstance(module.weight, Tensor)
    return module.weight


def _bias(module: nn.Module) -> Tensor:
    assert isinstance(module.bias, Tensor)
    return module.bias
