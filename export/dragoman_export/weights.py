"""The weights of a bundle: one safetensors file with each parameter once. Both graphs read it at fixed offsets.

In fp32 and fp16, the tensors have the names and the layout of `Transformer.state_dict()`, except that the embedding
matrix is padded to a multiple of `BLOCK` words. Some parameters are used by a graph as one matrix: query, key and value
of a self-attention, and the keys and values of the cross-attention of all decoder layers. They are neighbours in the
file, so that the large matrix needs no copy. `quantise` makes the weights of int8, `read_back` reads them.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor
from torch.nn import functional

from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.manifest import WEIGHTS

POSITIONS = "positions.table"
EMBEDDING_USES = ("target", "source", "output")
"""What embedding matrices are for; see `Transformer.embedding_matrix`. They may share one."""
BLOCK = 64
"""Words of a block in the first stage of the search for candidates (`graphs`). The embedding matrix has a multiple of
this number of words."""
_DTYPES = {
    "float32": ("F32", onnx.TensorProto.FLOAT),
    "float16": ("F16", onnx.TensorProto.FLOAT16),
    "int8": ("I8", onnx.TensorProto.INT8),
}
"""Type in NumPy -> type in safetensors and in ONNX."""
_ALIGNMENT = 64
"""Alignment of the data in bytes: a cache line, and the widest vector register."""


@dataclass(frozen=True)
class Weights:
    """The parameters in the order of the file."""

    tensors: dict[str, np.ndarray]

    @functools.cached_property  # each parameter of a graph asks for it
    def header(self) -> bytes:
        """The header of the safetensors format: 8 bytes with the length of the JSON, then the padded JSON."""
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

    def write(self, path: Path) -> None:
        """Write the file, one tensor after the other, so that memory holds no second copy of all."""
        with path.open("wb") as file:
            file.write(self.header)
            for tensor in self.tensors.values():
                file.write(np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data)

    def initializer(self, name: str, parts: Sequence[str], shape: Sequence[int] | None = None) -> onnx.TensorProto:
        """An ONNX tensor `name` that refers to `parts`, which must be neighbours in the file.

        The parts are concatenated along their first axis. `shape` replaces the resulting shape.

        Raises:
            ValueError: `parts` are not neighbours.
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
    """The parameters and the position table of a model, in the order of the file."""
    state = {name: model.position_table(stack) for stack, name in position_tables(model.config).items()}
    state |= model.state_dict()
    ordered = [name for group in neighbours(model.config) for name in group]
    names = [*ordered, *(name for name in state if name not in set(ordered))]
    for use, name in embedding_matrices(model.config).items():
        state[f"{name}.weight"] = padded(model.embedding_matrix(use))
    return Weights({name: _as_array(state[name], dtype) for name in names})


def position_tables(config: ModelConfig) -> dict[str, str]:
    """Stack -> the name of its table of positions. The decoder is left out if it has that of the encoder."""
    own = {"decoder": f"decoder_{POSITIONS}"} if config.decoder_positions == "own" else {}
    return {"encoder": POSITIONS, **own}


def embedding_matrices(config: ModelConfig) -> dict[str, str]:
    """Use -> the name of its embedding matrix, without `.weight`."""
    return {
        "target": "embedding",
        "source": "source_embedding" if config.source_embedding == "own" else "embedding",
        "output": "output_embedding" if config.output_embedding == "own" else "embedding",
    }


def padded(table: Tensor) -> Tensor:
    """A matrix [V, D], padded with rows of zeros to a multiple of `BLOCK` rows."""
    return functional.pad(table, (0, 0, 0, padded_words(table.size(0)) - table.size(0)))


def padded_words(words: int) -> int:
    """`words` rounded up to a multiple of `BLOCK`."""
    return words + -words % BLOCK


def neighbours(config: ModelConfig) -> list[tuple[str, ...]]:
    """The groups of parameters that are neighbours in the file, because a graph uses them as one matrix or one bias."""
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
    """The names of the query, key and value projections of a self-attention."""
    return tuple(f"{attention}.{part}" for part in ("query", "key", "value"))


def cross_key_value(config: ModelConfig) -> tuple[str, ...]:
    """The names of the key and value projections of the cross-attention of all decoder layers."""
    layers = range(config.decoder_layers)
    return tuple(f"decoder.{layer}.cross_attention.{part}" for layer in layers for part in ("key", "value"))


def _as_array(tensor: Tensor, dtype: torch.dtype) -> np.ndarray:
    return np.ascontiguousarray(tensor.detach().to(dtype).numpy())
