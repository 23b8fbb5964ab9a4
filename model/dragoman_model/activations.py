"""Activation functions of the feed-forward networks (section 3.3 of Vaswani et al. 2017, and other families)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional


def swish(x: Tensor) -> Tensor:
    """Ramachandran et al. 2017: x sigmoid(x), also called SiLU."""
    return functional.silu(x)


def gelu(x: Tensor) -> Tensor:
    """Hendrycks and Gimpel 2016: x times the distribution function of the normal distribution."""
    return functional.gelu(x)


def gelu_tanh(x: Tensor) -> Tensor:
    """Its approximation with the hyperbolic tangent."""
    return functional.gelu(x, approximate="tanh")


def gelu_sigmoid(x: Tensor) -> Tensor:
    """Its approximation x sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "swish": swish,
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_sigmoid": gelu_sigmoid,
}
"""Name -> function of every element."""
LEAST = {"relu": 0.0, "swish": -0.2785, "gelu": -0.17, "gelu_tanh": -0.1701, "gelu_sigmoid": -0.1637}
"""Name -> lower bound of the values of the function."""
