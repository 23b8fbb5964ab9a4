"""Cross-entropy with label smoothing (section 5.4 of Vaswani et al. 2017), without the logits of a whole batch.

A batch has far more logits than anything else: 2,000 tokens of 8,000 subwords are 64 MB in fp32, which the usual way
goes over again and again. Here a few rows at a time go from logits to gradient while they are in the cache, as the
derivative of a sum of losses needs nothing from behind.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dragoman_model.transformer import PAD_ID, Transformer

ROWS = 512
"""Tokens whose logits exist together: few enough for a CPU's cache, enough for an efficient product of matrices."""
ROWS_CUDA = 8192
"""On a GPU it is about launches, not caches. Not measured yet."""


def loss_sum(
    model: Transformer, source: Tensor, target: Tensor, label_smoothing: float, unsmoothed: Tensor | None = None
) -> Tensor:
    """Cross-entropy summed over the target tokens, padding left out, in nats.

    Args:
        model: Called with teacher forcing.
        source: [B, S] ids.
        target: [B, T + 1] ids, begin token first.
        label_smoothing: Probability mass spread over the vocabulary.
        unsmoothed: A scalar to which the same loss without label smoothing is added; it has no gradient.
    """
    gold = target[:, 1:]
    real = gold != PAD_ID
    states = model.decoder_states(source, target[:, :-1])[real]  # [N, D]
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, model.embedding.weight, model.output_bias, gold[real], label_smoothing, unsmoothed
    )
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """sum over rows of logsumexp(z) - (1 - e) z[gold] - e mean(z), where z = x W^T + b are the logits."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, gold: Tensor, smoothing: float, unsmoothed: Tensor | None
    ) -> Tensor:
        """`x` [N, D], `weight` [V, D], `bias` [V], `gold` [N] -> the loss, a scalar in fp32."""
        needs_gradient = any(ctx.needs_input_grad)
        device, size = x.device.type, ROWS_CUDA if x.is_cuda else ROWS
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        x_used, weight_used, bias_used = x.to(dtype), weight.to(dtype), bias.to(dtype)
        loss, plain = torch.zeros((), device=x.device), torch.zeros((), device=x.device)
        gradients = (torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)) if needs_gradient else None
        with torch.autocast(device, enabled=False):
            for start in range(0, len(x), size):
                rows = slice(start, start + size)
                logits = torch.addmm(bias_used, x_used[rows], weight_used.t()).float()  # [rows, V]
                smoothed, without = _losses(logits, gold[rows], smoothing)
                loss += smoothed
                plain += without
                if gradients is not None:
                    _add_gradients(logits, gold[rows], smoothing, x_used[rows], weight_used, rows, gradients)
        if gradients is not None:
            ctx.save_for_backward(*gradients)
        if unsmoothed is not None:
            unsmoothed += plain
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, scale: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None, None]:
        """The gradients are there already, for a loss that counts once."""
        x, weight, bias = ctx.saved_tensors
        return x * scale, weight * scale, bias * scale, None, None, None


def _losses(logits: Tensor, gold: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """[rows, V], [rows] -> the sums of losses with smoothing and without. Leaves the probabilities in `logits`."""
    right = logits.gather(1, gold.unsqueeze(1)).sum()
    wanted = (1 - smoothing) * right
    if smoothing:
        wanted += smoothing / logits.size(1) * logits.sum()
    greatest = logits.amax(dim=1, keepdim=True)
    total = logits.sub_(greatest).exp_().sum(dim=1, keepdim=True)
    logits.div_(total)
    normaliser = (greatest + total.log()).sum()
    return normaliser - wanted, normaliser - right


def _add_gradients(
    probabilities: Tensor,
    gold: Tensor,
    smoothing: float,
    x: Tensor,
    weight: Tensor,
    rows: slice,
    gradients: tuple[Tensor, Tensor, Tensor],
) -> None:
    """The gradient in the logits is what the model believes less what it should, and from there on a linear map's."""
    by_x, by_weight, by_bias = gradients
    believed = probabilities.sub_(smoothing / probabilities.size(1)) if smoothing else probabilities
    believed.scatter_add_(1, gold.unsqueeze(1), believed.new_full((len(gold), 1), smoothing - 1))
    by_bias += believed.sum(dim=0)
    error = believed.to(x.dtype)
    by_x[rows] = error @ weight
    by_weight += error.t() @ x
