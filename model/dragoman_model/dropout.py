"""Dropout (section 5.4 of Vaswani et al. 2017) that costs little on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def dropout(x: Tensor, probability: float) -> Tensor:
    """Set elements to zero with a probability, and scale the others so that the mean stays.

    PyTorch draws every element on its own on a CPU, which takes as long as the products of matrices of a small model.
    Here one draw decides about eight elements, a byte each; so the probability is rounded to a 256th.
    """
    if x.is_cuda or not probability:
        return functional.dropout(x, probability)
    dropped = min(255, max(1, round(256 * probability)))
    draws = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
    kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= dropped
    return x * kept.to(x.dtype).mul_(256 / (256 - dropped))


class Dropout(nn.Module):
    """`dropout` while training, nothing otherwise."""

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x: Tensor) -> Tensor:
        """Of any shape."""
        return dropout(x, self.probability) if self.training else x
