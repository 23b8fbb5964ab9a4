"""Verification of the weights file: its numbers must be those of the checkpoint, rounded to the precision, and the
graphs must read every tensor from its place in the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from dragoman_export.precision import Prepared
from dragoman_export.quantise import LARGEST_WEIGHT
from dragoman_export.read_back import stored_state
from dragoman_export.weights import Weights, blocks, position_tables
from dragoman_service.bundle.manifest import DECODER, ENCODER, WEIGHTS

_HALF_STEP = 0.5001 / LARGEST_WEIGHT
"""Half a step of a weight, with a tolerance, in units of the largest number of its row."""


def stored_problems(folder: Path, prepared: Prepared) -> Iterator[str]:
    """Read the weights file and the graphs again, and yield their problems.

    The stored numbers must be the parameters of `prepared.reference`: bit by bit, or with int8 except for the rounding
    of scales. Those parameters must be the ones of `prepared.unrounded`, rounded to the nearest number of the
    precision. A tensor that a graph reads from the file must be the one, or the neighbours, of its name.

    Args:
        folder: The folder of the graphs and their weights.
        prepared: The model that was written.
    """
    for name in (ENCODER, DECODER):
        yield from _misplaced(onnx.load(folder / name, load_external_data=False), name, prepared.weights)
    reference, precision = prepared.reference, prepared.precision
    tables = position_tables(reference.config)
    wanted = reference.state_dict() | {name: reference.position_table(stack) for stack, name in tables.items()}
    missing = set(wanted)
    for name, stored in stored_state(folder, reference.config):
        tensor = wanted.get(name)
        missing.discard(name)
        if tensor is None or tensor.shape != stored.shape:
            yield f"{WEIGHTS}: {name} has the shape {list(stored.shape)}"
            continue
        pairs = [(stored[rows], tensor[rows]) for rows in blocks(tensor)]
        if not all(_same(precision, one, other) for one, other in pairs):
            yield f"{WEIGHTS}: {name} is off by {_largest(pairs):.2g}"
        prepared.shelf.release()
    yield from (f"{WEIGHTS}: {name} is missing" for name in sorted(missing))
    kinds = (nn.Linear, nn.Embedding)
    matrices = {f"{name}.weight" for name, module in reference.named_modules() if isinstance(module, kinds)}
    for name, exact in prepared.unrounded.state_dict().items():
        pairs = [(wanted[name][rows], exact[rows]) for rows in blocks(exact)]
        steps = (_step(precision, right, rows=name in matrices) for _, right in pairs)
        if not all(bool(((one - right).abs() <= step).all()) for (one, right), step in zip(pairs, steps, strict=True)):
            yield f"{name} is rounded by {_largest(pairs):.2g}, more than half a step"
        prepared.shelf.release()


def _misplaced(model: onnx.ModelProto, file: str, weights: Weights) -> Iterator[str]:
    """Yield the tensors of a graph that are not read from the place of the tensor of their name.

    A comparison of numbers would not detect that two nearly equal biases are exchanged.
    """
    for tensor in model.graph.initializer:
        name, _, shape = tensor.name.partition("_as_")
        first, _, last = (name, "", name) if name in weights.tensors else name.partition("..")
        if first not in weights.tensors or last not in weights.tensors:
            if tensor.external_data:
                yield f"{file}: {tensor.name} is not a tensor of {WEIGHTS}"
            continue
        names = list(weights.tensors)
        parts = names[names.index(first) : names.index(last) + 1]
        right = weights.initializer(tensor.name, parts, [*map(int, shape.split("x"))] if shape else None)
        if tensor.SerializeToString(deterministic=True) != right.SerializeToString(deterministic=True):
            yield f"{file}: {tensor.name} is not read from its place in {WEIGHTS}"


def _step(precision: str, x: Tensor, *, rows: bool) -> Tensor:
    """The largest rounding error: half the distance between neighbouring numbers of the precision, at `x`."""
    if precision == "fp16":
        return x.abs() * 2.0**-11 + 2.0**-25
    if precision == "int8" and rows:
        largest: Tensor = x.abs().amax(1, keepdim=True)
        return largest * _HALF_STEP + 1e-7
    return torch.zeros(())


def _same(precision: str, stored: Tensor, right: Tensor) -> bool:
    close = precision == "int8" and torch.allclose(stored, right, rtol=1e-5, atol=1e-7)
    return close or torch.equal(stored, right)


def _largest(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """The largest difference of the tensors of pairs."""
    return max(float((one - other).detach().abs().max()) for one, other in pairs)
