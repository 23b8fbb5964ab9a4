"""From the layers of another program to the parameters of our Transformer: names, sizes, heads and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dragoman_export.imports.lazy import Array, LazyTensor, constant
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.errors import InvalidInput

NEVER = -1e4
"""Output bias of tokens that a checkpoint does not have: their probability is 0 in every precision."""
_HEAD_UNIT = 8
"""ONNX Runtime's attention kernels require head sizes that are multiples of it."""
_ATTENTIONS = {"encoder": ("self_attention",), "decoder": ("self_attention", "cross_attention")}
_PROJECTIONS = ("query", "key", "value", "output")


@dataclass(frozen=True, slots=True)
class Part:
    """A linear layer or a layer norm of a layer."""

    stack: str
    layer: int
    name: str
    """Our name within the layer, such as `self_attention.query`."""
    shape: tuple[int, ...]
    """Of its weight as the checkpoint has it: [out, in], or [width] of a norm."""

    @property
    def path(self) -> str:
        """Our name in the model, without `.weight`."""
        return f"{self.stack}.{self.layer}.{self.name}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of the layers of a checkpoint."""

    d_model: int
    num_heads: int
    encoder_layers: int
    decoder_layers: int
    encoder_d_ff: int
    decoder_d_ff: int

    def __post_init__(self) -> None:
        if self.d_model % self.num_heads:
            raise InvalidInput("width of the model", self.d_model, f"a multiple of the {self.num_heads} heads")

    @property
    def head_size(self) -> int:
        """Width of one head in the checkpoint."""
        return self.d_model // self.num_heads

    @property
    def padded_head(self) -> int:
        """Width of one head in our model."""
        return -(-self.head_size // _HEAD_UNIT) * _HEAD_UNIT

    def settings(self) -> dict[str, Any]:
        """The fields of `ModelConfig`. Heads of a width that the kernels do not allow are padded with zeros."""
        padded = self.padded_head != self.head_size
        return {
            "d_model": self.d_model,
            "num_heads": self.num_heads,
            "encoder_layers": self.encoder_layers,
            "decoder_layers": self.decoder_layers,
            "d_ff": self.encoder_d_ff,
            "decoder_d_ff": None if self.decoder_d_ff == self.encoder_d_ff else self.decoder_d_ff,
            "head_size": self.padded_head if padded else None,
            "attention_scale": self.head_size**-0.5 if padded else None,
        }

    def parts(self) -> Iterator[Part]:
        """Every linear layer and layer norm of all layers."""
        width = self.d_model
        for stack, layers, d_ff in (
            ("encoder", self.encoder_layers, self.encoder_d_ff),
            ("decoder", self.decoder_layers, self.decoder_d_ff),
        ):
            for layer in range(layers):
                for attention in _ATTENTIONS[stack]:
                    for projection in _PROJECTIONS:
                        yield Part(stack, layer, f"{attention}.{projection}", (width, width))
                    yield Part(stack, layer, f"{attention}_residual.norm", (width,))
                yield Part(stack, layer, "feed_forward.inner", (d_ff, width))
                yield Part(stack, layer, "feed_forward.outer", (width, d_ff))
                yield Part(stack, layer, "feed_forward_residual.norm", (width,))


def layer_tensors(sizes: Sizes, find: Callable[[Part], tuple[LazyTensor, LazyTensor]]) -> dict[str, LazyTensor]:
    """Our parameters of all layers.

    Args:
        sizes: The sizes of the layers.
        find: Part -> its weight and its bias, as the checkpoint has them.
    """
    tensors: dict[str, LazyTensor] = {}
    for part in sizes.parts():
        weight, bias = find(part)
        if sizes.padded_head != sizes.head_size and "attention." in part.name:
            weight, bias = _padded_heads(sizes, part, weight, bias)
        tensors |= {f"{part.path}.weight": weight, f"{part.path}.bias": bias}
    return tensors


def _padded_heads(sizes: Sizes, part: Part, weight: LazyTensor, bias: LazyTensor) -> tuple[LazyTensor, LazyTensor]:
    """Add zeros to every head: rows of query, key and value, and columns of the output. No result changes."""
    heads, old, new = sizes.num_heads, sizes.head_size, sizes.padded_head

    def rows(array: Array) -> Array:
        split = array.reshape(heads, old, -1)  # [H, K, D]
        return np.pad(split, ((0, 0), (0, new - old), (0, 0))).reshape(heads * new, *array.shape[1:])

    width = heads * new
    if part.name.endswith(".output"):
        return weight.then(lambda array: rows(np.ascontiguousarray(array.T)).T, (sizes.d_model, width)), bias
    return weight.then(rows, (width, sizes.d_model)), bias.then(rows, (width,))


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The embedding matrices of a checkpoint, each as it stands there. Equal ones become one."""

    source: LazyTensor
    target: LazyTensor
    output: LazyTensor
    bias: LazyTensor | None
    """[V], of the output layer. None: it has none."""

    def grown(self, words: int) -> Embeddings:
        """With rows of zeros up to `words` in each vocabulary. No translation contains the tokens of the new rows."""
        bias = self.bias or constant(np.zeros(self.target.shape[0], np.float32))
        target = self.target.grown(words)
        return Embeddings(
            target if self.source.equals(self.target) else self.source.grown(words),
            target,
            target if self.output.equals(self.target) else self.output.grown(words),
            bias.grown(words, NEVER),
        )

    def convert(self) -> tuple[dict[str, Any], dict[str, LazyTensor]]:
        """The fields of `ModelConfig`, and our parameters."""
        words = self.target.shape[0]
        tensors = {
            "embedding.weight": self.target,
            "output_bias": self.bias or constant(np.zeros(words, np.float32)),
        }
        settings: dict[str, Any] = {"vocab_size": words}
        if not self.source.equals(self.target):
            size = self.source.shape[0]
            settings |= {"source_embedding": "own", "source_vocab_size": None if size == words else size}
            tensors["source_embedding.weight"] = self.source
        if not self.output.equals(self.target):
            settings["output_embedding"] = "own"
            tensors["output_embedding.weight"] = self.output
        return settings, tensors


def positions(encoder: LazyTensor, decoder: LazyTensor) -> tuple[dict[str, Any], dict[str, LazyTensor]]:
    """The fields of `ModelConfig` and our parameters for two tables [P, D]. Equal ones become one."""
    count = min(encoder.shape[0], decoder.shape[0])
    encoder, decoder = encoder.part(0, count), decoder.part(0, count)
    settings: dict[str, Any] = {"positions": "table", "max_positions": count}
    tensors = {"positions.table": encoder}
    if not encoder.equals(decoder):
        settings["decoder_positions"] = "own"
        tensors["decoder_positions.table"] = decoder
    return settings, tensors


def check_complete(config: ModelConfig, tensors: dict[str, LazyTensor]) -> dict[str, LazyTensor]:
    """Return `tensors` in the order of `Transformer.state_dict()`, after a check that they are exactly its entries.

    Raises:
        InvalidInput: a tensor is missing, left over, or of another shape.
    """
    with torch.device("meta"):
        wanted = {name: tuple(it.shape) for name, it in Transformer(config).state_dict().items()}
    for name in sorted(wanted.keys() ^ tensors.keys()):
        there = "there is one" if name in tensors else "there is none"
        raise InvalidInput(f"parameter {name}", there, "exactly the parameters of the configuration")
    for name, shape in wanted.items():
        if tensors[name].shape != shape:
            raise InvalidInput(f"parameter {name}", f"shape {list(tensors[name].shape)}", f"shape {list(shape)}")
    return {name: tensors[name] for name in wanted}
