"""Files of `torch.save`, read by PyTorch's loader that makes tensors and plain containers alone, and runs nothing."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dragoman_export.imports.lazy import LazyTensor
from dragoman_service.errors import InvalidInput

_TYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_DAMAGE = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    KeyError,
    IndexError,
    TypeError,
    AttributeError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
)


def read_pickled(path: Path) -> dict[str, LazyTensor]:
    """Name -> tensor of a state dict. The numbers stay in the file, unless it has the format before PyTorch 1.6.

    Raises:
        InvalidInput: the file is damaged, needs more than tensors, or has something other than tensors by name.
    """
    state = _load(path)
    if not isinstance(state, dict):
        raise InvalidInput(path.name, type(state).__name__, "a state dict: name -> tensor")
    for name, tensor in state.items():
        if not (isinstance(name, str) and isinstance(tensor, Tensor) and _is_plain(tensor)):
            got = str(tensor.dtype) if isinstance(tensor, Tensor) else type(tensor).__name__
            allowed = "a dense tensor of float64, float32, float16 or bfloat16, all of whose numbers are in the file"
            raise InvalidInput(f"{path.name}: {name}", got, allowed)
    made: dict[tuple[Any, ...], LazyTensor] = {}  # one for all names of the same numbers
    return {name: made.setdefault(_place(tensor), _tensor(tensor)) for name, tensor in state.items()}


def _is_plain(tensor: Tensor) -> bool:
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and tensor.dtype in _TYPES
        and tensor.nbytes <= tensor.untyped_storage().nbytes()
    )


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        if zipped:
            _check_stored(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        reason = str(error).split("WeightsUnpickler error: ")[-1].split("\n")[0]
        allowed = f"a file of tensors alone: nothing in a checkpoint is executed ({reason})"
        raise InvalidInput(path.name, "a pickle that needs more than tensors", allowed) from error
    except _DAMAGE as error:
        reason = str(error).split("\n")[0]
        raise InvalidInput(path.name, "damaged or incomplete", f"a file of torch.save ({reason})") from error


def _check_stored(path: Path) -> None:
    """Check that nothing is compressed. PyTorch would take compressed bytes for numbers, and unpack a bomb of names."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise InvalidInput(
                    f"{path.name}: {entry.filename}", "compressed", "stored as it is, as torch.save does"
                )


def _place(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride()


def _tensor(tensor: Tensor) -> LazyTensor:
    return LazyTensor(tuple(tensor.shape), lambda rows: tensor[rows].detach().to(torch.float32).contiguous().numpy())
