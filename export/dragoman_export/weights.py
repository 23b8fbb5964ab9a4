"""The weights of a bundle: one safetensors file, each parameter once, that both graphs read at known offsets.

Those of fp32 and fp16 keep names and layout of `Transformer.state_dict()`, but the embedding matrix is padded to a
multiple of `BLOCK` words. Parameters that a graph multiplies with as one matrix (query, key and value of
self-attention; keys and values of all decoder layers' cross-attention) lie one after the other, so that the big matrix
is there without a copy of its own. Those of int8 are made, and read back, by `quantise`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.manifest import WEIGHTS

POSITIONS = "positions.table"
BLOCK = 64
"""Words that the decoder looks at as one before it looks at each: the embedding matrix has a multiple of so many."""
_DTYPES = {
    "float32": ("F32", onnx.TensorProto.FLOAT),
    "float16": ("F16", onnx.TensorProto.FLOAT16),
    "int8": ("I8", onnx.TensorProto.INT8),
}
"""Of NumPy -> of safetensors and of ONNX."""
_ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The parameters in the order of the file."""

    tensors: dict[str, np.ndarray]

    @property
    def header(self) -> bytes:
        """What stands before the data, as the safetensors format has it: 8 bytes of length, then JSON."""
        entries, offset = {}, 0
        for name, tensor in self.tensors.items():
            end = offset + tensor.nbytes
            entries[name] = {
                "dtype": _DTYPES[tensor.dtype.name][0],
                "shape": list(tensor.shape),
                "data_offsets": [offset, end],
            }
            offset = end
        text = json.dumps(entries).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def to_bytes(self) -> bytes:
        """The contents of the file."""
        return self.header + b"".join(tensor.tobytes() for tensor in self.tensors.values())

    def initializer(self, name: str, parts: Sequence[str], shape: Sequence[int] | None = None) -> onnx.TensorProto:
        """An ONNX tensor `name` that refers to `parts`, neighbours in the file.

        Unless `shape` says otherwise, they are stacked along their first axis.
        """
        names = list(self.tensors)
        first = names.index(parts[0])
        if names[first : first + len(parts)] != list(parts):
            raise ValueError(f"{name}: {', '.join(parts)} are no neighbours in the file")
        start = len(self.header) + sum(self.tensors[other].nbytes for other in names[:first])
        shapes = [self.tensors[part].shape for part in parts]
        stacked = shapes[0] if len(parts) == 1 else (sum(shape[0] for shape in shapes), *shapes[0][1:])
        proto = onnx.TensorProto(
            name=name,
            data_type=_DTYPES[self.tensors[parts[0]].dtype.name][1],
            dims=stacked if shape is None else shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        length = sum(self.tensors[part].nbytes for part in parts)
        for key, value in (("location", WEIGHTS), ("offset", start), ("length", length)):
            proto.external_data.add(key=key, value=str(value))
        return proto


def collect_weights(model: Transformer, dtype: torch.dtype = torch.float32) -> Weights:
    """The parameters of a model, and its table of positions whether trained or not, in the order of the file."""
    state = {POSITIONS: model.positions.table, **model.state_dict()}
    ordered = [name for group in neighbours(model.config) for name in group]
    names = [*ordered, *(name for name in state if name not in set(ordered))]
    state["embedding.weight"] = padded(model.embedding.weight)
    return Weights({name: _as_array(state[name], dtype) for name in names})


def padded(table: Tensor) -> Tensor:
    """[V, D] -> [V up to the next multiple of `BLOCK`, D], with zeros."""
    return functional.pad(table, (0, 0, 0, -table.size(0) % BLOCK))


def neighbours(config: ModelConfig) -> list[tuple[str, ...]]:
    """The groups of parameters that lie one after the other, for use as one matrix or one bias."""
    modules = [
        *(
            qkv(f"{stack}.{layer}.self_attention")
            for stack, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers))
            for layer in range(layers)
        ),
        cross_key_value(config),
    ]
    return [tuple(f"{name}.{kind}" for name in group) for group in modules for kind in ("weight", "bias")]


def qkv(attention: str) -> tuple[str, ...]:
    """Query, key and value projections of a self-attention."""
    return tuple(f"{attention}.{part}" for part in ("query", "key", "value"))


def cross_key_value(config: ModelConfig) -> tuple[str, ...]:
    """Key and value projections of the cross-attention of every decoder layer."""
    layers = range(config.decoder_layers)
    return tuple(f"decoder.{layer}.cross_attention.{part}" for layer in layers for part in ("key", "value"))


def _as_array(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().to(dtype).numpy())
