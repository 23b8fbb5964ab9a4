"""Quantisation to int8: the weights of an int8 bundle, and a PyTorch model that rounds in the same way.

A number x is stored as the integer round(x / scale). Activations have 8 bits, weights 7. The quantisation is symmetric,
except for the input of the second matrix of a feed-forward network. There is one scale for an activation, one for each
output of a matrix, one for each word of the embedding matrix, and one for each channel of cached keys and values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from dragoman_export.calibration import Ranges
from dragoman_export.shelf import Shelf, copied, put
from dragoman_export.weights import (
    Weights,
    blocks,
    cross_key_value,
    embedding_matrices,
    padded,
    position_tables,
    qkv,
)
from dragoman_model.activations import LEAST
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.manifest import WEIGHT_BITS

INPUT_SCALE, WEIGHT_SCALE, CACHE_SCALE = ".input_scale", ".weight_scale", ".cache_scale"
"""Suffixes of the names of scales in the weights file."""
LARGEST_WEIGHT: int = 2 ** (WEIGHT_BITS - 1) - 1
"""Largest integer of a weight. With 7 bits, two products with unsigned 8-bit activations add up to at most 2 * 255 * 63
= 32,130, which fits 16 bits. So the fast kernels of processors without VNNI are exact too. BLEU does not suffer: see
`docs/bundles.md`."""
_SMALLEST = 1e-8
"""Lower bound of ranges, so that no scale is zero."""


@dataclass(frozen=True, slots=True)
class Rounding:
    """The scales of activations that are rounded to 8 bits. Fp32 and fp16 have none."""

    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """Name of an `nn.Linear`, or `output` for the product with the embedding matrix -> the scale of its input."""
    caches: Mapping[str, Tensor] = field(default_factory=dict)
    """Name of the projection of keys or values of a decoder layer -> the scales of its channels, [H K]."""
    activation: str = "relu"
    """The activation function of the feed-forward networks."""

    @classmethod
    def of(cls, ranges: Ranges, activation: str = "relu") -> Rounding:
        """The scales of an int8 bundle."""
        return cls(
            {name: input_scale(ranges, name, activation) for name in ranges.inputs},
            {name: cache_scale(ranges, name) for name in ranges.outputs if name.startswith("decoder")},
            activation,
        )

    def read(self, name: str, x: Tensor) -> Tensor:
        """`x`, rounded as the input of the matrix `name`."""
        return rounded(x, self.inputs[name], self.least(name)) if name in self.inputs else x

    def least(self, name: str) -> int:
        """The least integer for the input of the matrix `name`."""
        return least_integer(name, float(self.inputs[name]), self.activation) if name in self.inputs else -128


def matrix_name(modules: Sequence[str]) -> str:
    """The name of the concatenated matrix of several `nn.Linear` with the same input."""
    return modules[0] if len(modules) == 1 else f"{modules[0]}..{modules[-1]}"


def cross_matrix(config: ModelConfig) -> str:
    """The name of the matrix for the keys and values of all cross-attentions."""
    return matrix_name(cross_key_value(config))


@torch.no_grad()  # the scales would keep what they were computed from
def quantised_weights(model: Transformer, ranges: Ranges) -> Weights:
    """The tensors of an int8 bundle. Matrices are [in, out], as MatMulIntegerToFloat requires.

    The projections of the keys and values of cross-attention include the scales of their cache.
    """
    config, modules = model.config, dict(model.named_modules())
    tensors: dict[str, Tensor] = {name: model.position_table(stack) for stack, name in position_tables(config).items()}
    for use, name in embedding_matrices(config).items():
        table, scale = quantised_rows(model.embedding_matrix(use))
        tensors[f"{name}.weight"], scale = padded(table), padded(scale, _SMALLEST / LARGEST_WEIGHT)
        tensors[f"output{WEIGHT_SCALE}" if use == "output" else f"{name}.scale"] = (
            scale if use == "output" else scale[:, None] * config.embedding_factor
        )
    tensors |= {f"output{INPUT_SCALE}": input_scale(ranges, "output"), "output_bias": model.output_bias}
    for names in matrices(config):
        name, linears = matrix_name(names), [modules[part] for part in names]
        weight, weight_scale = quantised_rows(torch.cat([linear.weight for linear in linears]))
        tensors |= {
            f"{name}.weight": weight.T,
            f"{name}{WEIGHT_SCALE}": weight_scale,
            f"{name}.bias": torch.cat([linear.bias for linear in linears]),
            f"{name}{INPUT_SCALE}": input_scale(ranges, names[0], config.activation),
        }
    for name, module in modules.items():
        if isinstance(module, nn.LayerNorm):
            tensors |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
    for name in ranges.outputs:
        if name.startswith("decoder"):
            tensors[name + CACHE_SCALE] = cache_scale(ranges, name).view(1, config.num_heads, 1, config.head_dim)
    cross, cross_scale = (
        cross_matrix(config),
        torch.cat([cache_scale(ranges, name) for name in cross_key_value(config)]),
    )
    for part in (f"{cross}{WEIGHT_SCALE}", f"{cross}.bias"):
        tensors[part] = tensors[part] / cross_scale
    return Weights({name: np.ascontiguousarray(tensor.detach().numpy()) for name, tensor in tensors.items()})


@torch.no_grad()
def quantised_model(model: Transformer, ranges: Ranges, shelf: Shelf) -> Transformer:
    """A copy of `model` with the rounding of an int8 bundle. The graphs must agree with it.

    Its matrices are kept on `shelf`, and it shares all else with `model`.
    """
    model, rounding = copied(model), Rounding.of(ranges, model.config.activation)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            put(module, "weight", shelf.keep(dequantised(*quantised_rows(module.weight))))
            shelf.release()
        if isinstance(module, nn.Linear):
            module.register_forward_pre_hook(_rounding_input(rounding, name))
            if name in rounding.caches:
                module.register_forward_hook(_rounding_output(rounding.caches[name]))

    def project_output(x: Tensor) -> Tensor:
        return functional.linear(rounding.read("output", x), model.embedding_matrix("output"), model.output_bias)

    model.project_output = project_output  # type: ignore[method-assign]
    return model


def quantised_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A matrix [out, in] -> int8 [out, in] of at most `LARGEST_WEIGHT`, and the scale of each row, [out]."""
    scale = torch.maximum(weight.amax(1), -weight.amin(1)).clamp(min=_SMALLEST) / LARGEST_WEIGHT
    found = torch.empty_like(weight, dtype=torch.int8)
    for rows in blocks(weight):
        found[rows] = torch.round(weight[rows] / scale[rows, None]).to(torch.int8)
    return found, scale


def dequantised(weight: Tensor, scale: Tensor) -> Tensor:
    """The matrix that a result of `quantised_rows` stands for."""
    return weight * scale[:, None]


def rounded(x: Tensor, scale: Tensor, least: int) -> Tensor:
    """`x`, rounded to `scale` times an integer from `least` to `least + 255`, as by QuantizeLinear."""
    return torch.round(x / scale).clamp(least, least + 255) * scale


def least_integer(name: str, scale: float = 1.0, activation: str = "relu") -> int:
    """The least integer for the input of a matrix: after an activation function that of its least value, else -128."""
    return -zero_point(scale, activation) if name.endswith(".outer") else -128


def zero_point(scale: float, activation: str) -> int:
    """The unsigned integer that stands for 0 after an activation function, whose values have a lower bound."""
    return round(-LEAST[activation] / scale)


def input_scale(ranges: Ranges, name: str, activation: str = "relu") -> Tensor:
    """The scale of the input of a matrix.

    The range has 127 steps to either side of 0. After an activation function it has 255 steps from its least value.
    """
    largest = ranges.inputs[name].amax().clamp(min=_SMALLEST)
    return (largest - LEAST[activation]) / 255 if name.endswith(".outer") else largest / 127


def cache_scale(ranges: Ranges, name: str) -> Tensor:
    """The scales of the channels of cached keys or values, [H K]."""
    return ranges.outputs[name].clamp(min=_SMALLEST) / 127


def matrices(config: ModelConfig) -> Iterator[tuple[str, ...]]:
    """The groups of `nn.Linear` that the graphs use as one matrix."""
    for layer in (f"encoder.{index}" for index in range(config.encoder_layers)):
        yield qkv(f"{layer}.self_attention")
        yield from ((f"{layer}.{part}",) for part in ("self_attention.output", *_FEED_FORWARD))
    for layer in (f"decoder.{index}" for index in range(config.decoder_layers)):
        yield qkv(f"{layer}.self_attention")
        parts = ("self_attention.output", "cross_attention.query", "cross_attention.output", *_FEED_FORWARD)
        yield from ((f"{layer}.{part}",) for part in parts)
    yield cross_key_value(config)


_FEED_FORWARD = ("feed_forward.inner", "feed_forward.outer")


def _rounding_input(rounding: Rounding, name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
    return lambda _, given: (rounding.read(name, given[0]), *given[1:])


def _rounding_output(scale: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], Tensor]:
    return lambda _, given, result: rounded(result, scale, -128)
