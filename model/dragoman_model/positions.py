"""Position vectors, which are added to the embeddings (section 3.5 of Vaswani et al. 2017)."""

from __future__ import annotations

import math

import torch
from torch import nn

from dragoman_model.config import ModelConfig


class SinusoidalPositions(nn.Module):
    """Section 3.5: sine on even, cosine on odd dimensions, wavelengths from 2 pi to 10000 * 2 pi."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        position = torch.arange(config.max_positions, dtype=torch.float).unsqueeze(1)  # [P, 1]
        rate = torch.exp(torch.arange(0, config.d_model, 2) * (-math.log(10000.0) / config.d_model))  # [D / 2]
        table = torch.stack((torch.sin(position * rate), torch.cos(position * rate)), dim=-1).flatten(1)  # [P, D]
        self.register_buffer("table", table, persistent=False)


class LearnedPositions(nn.Module):
    """The alternative of table 3 (E): one trained vector for each position."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(config.max_positions, config.d_model) * config.d_model**-0.5)


class TablePositions(nn.Module):
    """A fixed table, whose numbers come with the parameters. Many families compute theirs with another formula."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.register_buffer("table", torch.zeros(config.max_positions, config.d_model))


POSITIONS: dict[str, type[nn.Module]] = {
    "sinusoidal": SinusoidalPositions,
    "learned": LearnedPositions,
    "table": TablePositions,
}
"""Name -> kind of absolute positions, a module with a `table` [max_positions, D] that is added to the embeddings.
Relative and rotary positions act inside attention: they would be a part of `MultiHeadAttention`, with no entry here."""
