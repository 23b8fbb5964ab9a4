"""The processes of one training run, as `torchrun` starts them: data parallelism with synchronous updates.

Every process has the whole model and works on its share of the batches of an update; their gradients are added up. So
the recipe decides what is learned, and the number of processes only how fast.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from dragoman_service.errors import InvalidInput

_PATIENCE = timedelta(hours=2)
"""How long the others wait while the first measures and saves."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process among those of the run; alone unless `join_workers` says otherwise."""

    rank: int = 0
    """From 0. The first measures, reports and saves."""
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that people and files hear from."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes, the same bits in each."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def follow_first(self, values: Sequence[float], device: torch.device) -> list[float]:
        """The numbers that the first process has, whatever the others give; they wait for it."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.broadcast(shared, src=0)
        return shared.tolist()


def join_workers(device: torch.device) -> tuple[Workers, torch.device]:
    """Meet the other processes that `torchrun` has started, if it has; returns the device of this one too.

    Raises:
        InvalidInput: there are more processes on this machine than CUDA devices.
    """
    if not distributed.is_torchelastic_launched():
        return Workers(), device
    # Optimisers import this in passing, and it keeps hold of a group that is there by then: that would outlive
    # `leave_workers`, and its threads, meeting an interpreter that is on its way out, abort the process.
    import torch._dynamo  # noqa: PLC0415

    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        devices = torch.cuda.device_count()
        if local >= devices:
            started = int(os.environ["LOCAL_WORLD_SIZE"])
            raise InvalidInput("--nproc-per-node", started, f"at most {devices}, the CUDA devices of this machine")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    return Workers(distributed.get_rank(), distributed.get_world_size()), device


def leave_workers(workers: Workers) -> None:
    """Part from the others; nothing happens to a process alone."""
    if workers.count > 1:
        distributed.destroy_process_group()
