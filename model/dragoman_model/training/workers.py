"""The processes of one training run, started by `torchrun`: data parallelism with synchronous updates.

Every process has the whole model and its share of the batches of an update. The gradients of all processes are summed.
So the number of processes changes the speed of a run, and not what it learns.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed

from dragoman_service.errors import InvalidInput

_TIMEOUT = timedelta(hours=2)
"""How long a process waits for the others. The others wait while the first one validates and saves."""


@dataclass(frozen=True, slots=True)
class Workers:
    """This process, among the processes of the run. By default it is the only one."""

    rank: int = 0
    """The number of this process, from 0."""
    count: int = 1
    """The number of processes."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that validates, reports and saves."""
        return self.rank == 0

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Replace tensors by their sums over all processes (all-reduce). All processes get the same bits."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.flatten() for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, summed in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def follow_first(self, values: Sequence[float], device: torch.device) -> list[float]:
        """Return the values of the first process in all processes (broadcast). The others wait for the first."""
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=device)
        distributed.broadcast(shared, src=0)
        return shared.tolist()


def join_workers(device: torch.device) -> tuple[Workers, torch.device]:
    """Join the process group, if `torchrun` has started this process. Returns the device of this process, too.

    Raises:
        InvalidInput: there are more processes on this machine than CUDA devices.
    """
    if not distributed.is_torchelastic_launched():
        return Workers(), device
    # PyTorch's optimisers import this module. If a process group exists by then, the module keeps a reference to it:
    # the group survives `leave_workers`, and its threads abort the process while the interpreter shuts down.
    import torch._dynamo  # noqa: PLC0415

    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        devices = torch.cuda.device_count()
        if local >= devices:
            started = int(os.environ["LOCAL_WORLD_SIZE"])
            raise InvalidInput("--nproc-per-node", started, f"at most {devices}, the CUDA devices of this machine")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    return Workers(distributed.get_rank(), distributed.get_world_size()), device


def leave_workers(workers: Workers) -> None:
    """Leave the process group. Does nothing if there is only one process."""
    if workers.count > 1:
        distributed.destroy_process_group()
