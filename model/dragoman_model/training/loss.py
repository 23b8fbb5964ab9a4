"""Cross-entropy with label smoothing (section 5.4 of Vaswani et al. 2017), without the logits of a whole batch.

The logits are the largest tensor of a batch: 2,000 tokens and 8,000 subwords take 64 MB in fp32. The usual
implementation reads and writes all of them several times. Here a block of rows goes from logits to gradients while it
is in the processor's cache. The forward pass can compute the gradients, because the derivative of a sum of losses does
not depend on anything that is computed later.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dragoman_model.transformer import PAD_ID, Transformer

ROWS = 512
"""Rows of a block on a CPU: few enough for the processor's cache, enough for an efficient matrix product."""
ROWS_CUDA = 8192
"""Rows of a block on a GPU, where the number of kernel launches matters more than the cache. Not measured yet."""


def loss_sum(
    model: Transformer, source: Tensor, target: Tensor, label_smoothing: float, unsmoothed: Tensor | None = None
) -> Tensor:
    """Cross-entropy in nats, summed over the target tokens without padding.

    Args:
        model: The model, which is called with teacher forcing.
        source: [B, S] ids.
        target: [B, T + 1] ids, begin token first.
        label_smoothing: Probability mass spread over the vocabulary.
        unsmoothed: A scalar. The loss without label smoothing is added to it, without a gradient.
    """
    gold = target[:, 1:]
    real = gold != PAD_ID
    states = model.decoder_states(source, target[:, :-1])[real]  # [N, D]
    loss: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, model.embedding_matrix("output"), model.output_bias, gold[real], label_smoothing, unsmoothed
    )
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """Linear layer and smoothed cross-entropy: the sum over rows of logsumexp(z) - (1 - e) z[gold] - e mean(z).

    z = x W^T + b are the logits, e is the label smoothing.
    """

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
        """Scale the gradients that `forward` computed for a derivative of 1."""
        x, weight, bias = ctx.saved_tensors
        return x * scale, weight * scale, bias * scale, None, None, None


def _losses(logits: Tensor, gold: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """[rows, V], [rows] -> the summed losses with and without smoothing. Overwrites `logits` with the probabilities."""
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
    """Write the gradient of `x`, and add to those of weight and bias. Overwrites `probabilities`.

    The gradient of the logits is the probabilities minus the smoothed target distribution.
    """
    by_x, by_weight, by_bias = gradients
    by_logits = probabilities.sub_(smoothing / probabilities.size(1)) if smoothing else probabilities
    by_logits.scatter_add_(1, gold.unsqueeze(1), by_logits.new_full((len(gold), 1), smoothing - 1))
    by_bias += by_logits.sum(dim=0)
    rounded = by_logits.to(x.dtype)
    by_x[rows] = rounded @ weight
    by_weight += rounded.t() @ x
