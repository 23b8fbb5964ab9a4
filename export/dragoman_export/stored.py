"""Whether the weights that were written are those of the checkpoint, as far as a precision can say them, and whether
the graphs take each from its place.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dragoman_export.precision import Prepared
from dragoman_export.read_back import read_model
from dragoman_export.weights import POSITIONS, Weights
from dragoman_service.bundle.manifest import DECODER, ENCODER, WEIGHTS

_HALF_STEP = 0.5001 / 127
"""Of a number in 8 bits, in units of the largest of its row."""


def stored_problems(folder: Path, prepared: Prepared) -> Iterator[str]:
    """Read the weights file and the graphs again; yields what is not as it should be.

    What is stored must be the parameters of `prepared.reference`, to the last bit, or with int8 to the rounding of its
    scales; and these must be those of `prepared.unrounded`, each to the nearest number that there is. A tensor that a
    graph takes from the file must be the one, or the neighbours, that it is called after.

    Args:
        folder: Of the bundle in the making.
        prepared: What was written.
    """
    for name in (ENCODER, DECODER):
        yield from _misplaced(onnx.load(folder / name, load_external_data=False), name, prepared.weights)
    reference = prepared.reference
    wanted = reference.state_dict() | {POSITIONS: reference.positions.table}
    stored = read_model(folder, reference.config.to_json()).state_dict()
    stored[POSITIONS] = load_file(folder / WEIGHTS)[POSITIONS].float()
    for name, tensor in wanted.items():
        close = torch.allclose(stored[name], tensor, rtol=1e-5, atol=1e-7) and prepared.precision == "int8"
        if not (close or torch.equal(stored[name], tensor)):
            yield f"{WEIGHTS}: {name} is off by {_largest(stored[name] - tensor):.2g}"
    matrices = {f"{name}.weight" for name, module in reference.named_modules() if isinstance(module, nn.Linear)}
    exact = prepared.unrounded.state_dict()
    for name in exact:
        allowed = _step(prepared.precision, exact[name], rows=name in matrices or name == "embedding.weight")
        if not bool(((wanted[name] - exact[name]).abs() <= allowed).all()):
            yield f"{name} is rounded by {_largest(wanted[name] - exact[name]):.2g}, more than half a step"


def _misplaced(model: onnx.ModelProto, file: str, weights: Weights) -> Iterator[str]:
    """Tensors of a graph that are not those of the weights file that they are called after.

    Numbers alone would not tell two biases that are nearly equal.
    """
    for tensor in model.graph.initializer:
        name, _, shape = tensor.name.partition("_as_")
        first, _, last = (name, "", name) if name in weights.tensors else name.partition("..")
        if first not in weights.tensors or last not in weights.tensors:
            if tensor.external_data:
                yield f"{file}: {tensor.name} is no tensor of {WEIGHTS}"
            continue
        names = list(weights.tensors)
        parts = names[names.index(first) : names.index(last) + 1]
        right = weights.initializer(tensor.name, parts, [*map(int, shape.split("x"))] if shape else None)
        if tensor.SerializeToString(deterministic=True) != right.SerializeToString(deterministic=True):
            yield f"{file}: {tensor.name} is taken from elsewhere than its place in {WEIGHTS}"


def _step(precision: str, x: Tensor, *, rows: bool) -> Tensor:
    """Half the distance between the numbers that a precision has, where `x` lies."""
    if precision == "fp16":
        return x.abs() * 2.0**-11 + 2.0**-25
    if precision == "int8" and rows:
        return x.abs().amax(1, keepdim=True) * _HALF_STEP + 1e-7
    return torch.zeros(())


def _largest(x: Tensor) -> float:
    return float(x.detach().abs().max())
