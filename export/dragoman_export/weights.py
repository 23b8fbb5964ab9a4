"""The weights of a bundle: one safetensors file, each parameter once, that both graphs read at known offsets.

Parameters keep the names and the layout of `Transformer.state_dict()`. Those that a graph multiplies with as one matrix
(query, key and value of self-attention; keys and values of all decoder layers' cross-attention) lie one after the
other, so that the big matrix is there without a copy of its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from safetensors.torch import load_file
from torch import Tensor

from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.manifest import WEIGHTS

POSITIONS = "positions.table"
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
            entries[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [offset, end]}
            offset = end
        text = json.dumps(entries).encode()
        text += b" " * (-(8 + len(text)) % _ALIGNMENT)
        return len(text).to_bytes(8, "little") + text

    def to_bytes(self) -> bytes:
        """The contents of the file."""
        return self.header + b"".join(tensor.tobytes() for tensor in self.tensors.values())

    def initializer(self, name: str, parts: Sequence[str]) -> onnx.TensorProto:
        """An ONNX tensor `name` that refers to `parts`, neighbours in the file, stacked along their first axis."""
        names = list(self.tensors)
        first = names.index(parts[0])
        if names[first : first + len(parts)] != list(parts):
            raise ValueError(f"{name}: {', '.join(parts)} are no neighbours in the file")
        start = len(self.header) + sum(self.tensors[other].nbytes for other in names[:first])
        shapes = [self.tensors[part].shape for part in parts]
        proto = onnx.TensorProto(
            name=name,
            data_type=onnx.TensorProto.FLOAT,
            dims=(sum(shape[0] for shape in shapes), *shapes[0][1:]),
            data_location=onnx.TensorProto.EXTERNAL,
        )
        length = sum(self.tensors[part].nbytes for part in parts)
        for key, value in (("location", WEIGHTS), ("offset", start), ("length", length)):
            proto.external_data.add(key=key, value=str(value))
        return proto


def collect_weights(model: Transformer) -> Weights:
    """The parameters of a model, and its table of positions whether trained or not, in the order of the file."""
    state = {POSITIONS: model.positions.table, **model.state_dict()}
    ordered = [name for group in neighbours(model.config) for name in group]
    names = [*ordered, *(name for name in state if name not in set(ordered))]
    return Weights({name: _as_array(state[name]) for name in names})


def neighbours(config: ModelConfig) -> list[tuple[str, ...]]:
    """The groups of parameters that lie one after the other, for use as one matrix or one bias."""
    kinds = ("weight", "bias")
    return [
        *(
            qkv(f"{stack}.{layer}.self_attention", kind)
            for stack, layers in (("encoder", config.encoder_layers), ("decoder", config.decoder_layers))
            for layer in range(layers)
            for kind in kinds
        ),
        *(cross_key_value(config, kind) for kind in kinds),
    ]


def qkv(attention: str, kind: str) -> tuple[str, ...]:
    """Query, key and value projections of a self-attention; `kind` is weight or bias."""
    return tuple(f"{attention}.{part}.{kind}" for part in ("query", "key", "value"))


def cross_key_value(config: ModelConfig, kind: str) -> tuple[str, ...]:
    """Key and value projections of the cross-attention of every decoder layer; `kind` is weight or bias."""
    layers = range(config.decoder_layers)
    return tuple(f"decoder.{layer}.cross_attention.{part}.{kind}" for layer in layers for part in ("key", "value"))


def read_model(bundle: Path, architecture: dict[str, object]) -> Transformer:
    """The PyTorch model that a bundle was exported from, in evaluation mode.

    Args:
        bundle: Its folder.
        architecture: `Manifest.architecture`, which is `ModelConfig.to_json()`.
    """
    model = Transformer(ModelConfig.from_settings(architecture))
    state: dict[str, Tensor] = load_file(bundle / WEIGHTS)
    if POSITIONS not in model.state_dict():  # computed, not trained
        del state[POSITIONS]
    model.load_state_dict(state)
    return model.eval()


def _as_array(tensor: Tensor) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().to(torch.float32).numpy())
