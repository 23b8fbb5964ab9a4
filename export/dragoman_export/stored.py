"""Whether the weights that were written are those of the checkpoint, as far as a precision can say them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dragoman_export.precision import Prepared
from dragoman_export.read_back import read_model
from dragoman_export.weights import POSITIONS
from dragoman_service.bundle.manifest import WEIGHTS

_HALF_STEP = 0.5001 / 127
"""Of a number in 8 bits, in units of the largest of its row."""


def stored_problems(folder: Path, prepared: Prepared) -> Iterator[str]:
    """Read the weights file again; yields what is not as it should be.

    What is stored must be the parameters of `prepared.reference`, to the last bit, or with int8 to the rounding of its
    scales; and these must be those of `prepared.unrounded`, each to the nearest number that there is.

    Args:
        folder: Of the bundle in the making.
        prepared: What was written.
    """
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


def _step(precision: str, x: Tensor, *, rows: bool) -> Tensor:
    """Half the distance between the numbers that a precision has, where `x` lies."""
    if precision == "fp16":
        return x.abs() * 2.0**-11 + 2.0**-25
    if precision == "int8" and rows:
        return x.abs().amax(1, keepdim=True) * _HALF_STEP + 1e-7
    return torch.zeros(())


def _largest(x: Tensor) -> float:
    return float(x.abs().max())
