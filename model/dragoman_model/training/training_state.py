"""Where a training run stands, and what it takes to go on from there as if it had never stopped."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Progress:
    """Where a run stands; written into every checkpoint."""

    step: int = 0
    """Updates done."""
    epoch: int = 0
    """Passes over the data begun, from 0."""
    batch: int = 0
    """Batches of this epoch consumed."""
    tokens: int = 0
    """Target tokens learned from, padding not counted."""
    seconds: float = 0.0
    """Wall-clock time spent, validation included."""
    validation: str = ""
    """The fingerprint of the validation sets that `best_bleu` was measured on."""
    best_bleu: float = -1.0
    best_loss: float = 0.0
    """Validation loss of the same measurement; it decides between equal BLEU."""
    best_step: int = 0
    """The step of the best measurement; 0 before the first."""
    unreported_loss: float = 0.0
    """Training loss in nats without label smoothing, summed over the target tokens since the last measurement."""
    unreported_tokens: int = 0
    """The number of these tokens."""
    unreported_seconds: float = 0.0
    """Wall-clock time of the updates since the last measurement."""
    unreported_norm: float = 0.0
    """Norms of the gradient before clipping, summed over the updates since the last measurement."""
    unreported_updates: int = 0
    """The number of these updates."""


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device) -> dict[str, Tensor]:
    """The state of the optimiser, by parameter, and of the random number generators."""
    tensors = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    for name, parameter in model.named_parameters():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state[parameter].items()}
    return tensors


def restore(
    tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> None:
    """Put back what `state_tensors` took. Raises KeyError or RuntimeError if it does not fit."""
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        optimizer.state[parameter] = {key: value.to(device) for key, value in state.items()}
    torch.set_rng_state(tensors["rng.cpu"])
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
