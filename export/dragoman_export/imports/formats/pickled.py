"""Files of `torch.save`, read by PyTorch's loader that makes tensors and plain containers alone, and runs nothing."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput


def read_pickled(path: Path) -> dict[str, LazyTensor]:
    """Name -> tensor of a state dict. The numbers stay in the file, unless it has the format before PyTorch 1.6.

    Raises:
        InvalidInput: the file is damaged, needs more than tensors, or has something other than tensors by name.
    """
    state = _load(path)
    if not isinstance(state, dict):
        raise InvalidInput(path.name, type(state).__name__, "a state dict: name -> tensor")
    for name, tensor in state.items():
        dense = isinstance(tensor, Tensor) and tensor.layout == torch.strided and not tensor.is_quantized
        if not (isinstance(name, str) and dense and tensor.device.type == "cpu"):
            raise InvalidInput(f"{path.name}: {name}", type(tensor).__name__, "a dense tensor of numbers")
    made: dict[tuple[Any, ...], LazyTensor] = {}  # one for all names of the same numbers
    return {name: made.setdefault(_place(tensor), _tensor(tensor)) for name, tensor in state.items()}


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error: ")[-1].split("\n")[0]
        allowed = f"a file of tensors alone: nothing in a checkpoint is executed ({reason})"
        raise InvalidInput(path.name, "a pickle that needs more than tensors", allowed) from error
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise InvalidInput(path.name, "damaged or incomplete", f"a file of torch.save ({error})") from error


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _tensor(tensor: Tensor) -> LazyTensor:
    return LazyTensor(tuple(tensor.shape), lambda rows: tensor[rows].detach().to(torch.float32).contiguous().numpy())
