"""Dropout (section 5.4 of Vaswani et al. 2017) that is fast on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def dropout(x: Tensor, probability: float) -> Tensor:
    """Set elements to zero with a probability, and scale the others to keep the mean.

    On a CPU, PyTorch draws a random number for every element. That takes as long as the matrix products of a small
    model. Here one random 64-bit integer is drawn for eight elements, one byte each. The probability is therefore
    rounded to a multiple of 1/256.
    """
    if x.is_cuda or not probability:
        return functional.dropout(x, probability)
    dropped = min(255, max(1, round(256 * probability)))
    draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x * kept.to(x.dtype).mul_(256 / (256 - dropped))


class Dropout(nn.Module):
    """A module that applies `dropout` in training mode, and is the identity otherwise."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """`x` may have any shape."""
        return dropout(x, self.probability) if self.training else x
