"""The choice of the PyTorch device."""

from __future__ import annotations

import torch

from dragoman_service.errors import InvalidInput


def choose_device(wanted: str, threads: int | None) -> torch.device:
    """The device for `auto`, `cpu` or `cuda`. Sets the number of CPU threads of PyTorch, unless it is None.

    Raises:
        InvalidInput: there is no such device, or `threads` is below 1.
    """
    if threads is not None:
        if threads < 1:
            raise InvalidInput("--threads", threads, "1 or more")
        torch.set_num_threads(threads)
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InvalidInput("--device", wanted, "cpu: PyTorch finds no CUDA device here")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
