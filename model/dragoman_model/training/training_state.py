"""The state of a training run that a checkpoint saves, so that a resumed run continues exactly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(slots=True)
class Progress:
    """The progress of a run. Every checkpoint has it."""

    step: int = 0
    """Updates done."""
    epoch: int = 0
    """The current pass over the data, from 0."""
    batch: int = 0
    """Batches of this epoch already used."""
    tokens: int = 0
    """Target tokens of all updates, without padding."""
    seconds: float = 0.0
    """Wall-clock time spent, validation included."""
    validation: str = ""
    """The fingerprint of the validation sets that `best_bleu` was measured on."""
    best_bleu: float = -1.0
    """The highest validation BLEU; -1 before the first validation."""
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
    """The state of the optimiser (`optimizer.PARAMETER.KEY`) and of the random number generators (`rng.DEVICE`)."""
    tensors = {"rng.cpu": torch.get_rng_state()}
    if device.type == "cuda":
        tensors["rng.cuda"] = torch.cuda.get_rng_state(device)
    for name, parameter in model.named_parameters():
        tensors |= {f"optimizer.{name}.{key}": value for key, value in optimizer.state[parameter].items()}
    return tensors


def restore(
    tensors: dict[str, Tensor], model: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device
) -> None:
    """Restore the result of `state_tensors`. Raises KeyError or RuntimeError if it does not fit."""
    for name, parameter in model.named_parameters():
        prefix = f"optimizer.{name}."
        state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        optimizer.state[parameter] = {key: value.to(device) for key, value in state.items()}
    torch.set_rng_state(tensors["rng.cpu"])
    if device.type == "cuda" and "rng.cuda" in tensors:
        torch.cuda.set_rng_state(tensors["rng.cuda"], device)
