"""The parts of the network in float64: the expected output of each part of a graph for a given input.

With int8, the inputs of matrices are rounded with the scales of the bundle, as in the graphs. The products are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dragoman_export.joints import ENCODER
from dragoman_export.precision import Prepared
from dragoman_export.weights import blocks
from dragoman_model.activations import ACTIVATIONS
from dragoman_model.evaluation.reference_decode import mask_logits
from dragoman_model.transformer import scaled_dot_product_attention
from dragoman_service.engine.plan import Adjustment


class Exact:
    """The parts of a model, by the names of its modules. Inputs and outputs are [N, T, width]; outputs are float64."""

    def __init__(self, prepared: Prepared) -> None:
        self.model = prepared.reference
        self.config = self.model.config
        self.rounding, self.shelf = prepared.rounding, prepared.shelf
        self._modules = dict(self.model.named_modules())

    def embedded(self, stack: str, ids: Tensor, positions: Tensor) -> Tensor:
        """Embedded ids [N, T] of a stack at `positions`, [T] or [N, T] -> [N, T, D]."""
        matrix = self.model.embedding_matrix("source" if stack == ENCODER else "target")
        words = matrix[ids].double() * self.config.embedding_factor
        return words + self.model.position_table(stack)[positions].double()

    def norm(self, name: str, x: Tensor) -> Tensor:
        """The layer norm `name`."""
        norm = self._modules[name]
        assert isinstance(norm, nn.LayerNorm)
        weight, bias = norm.weight.double(), norm.bias.double()
        return functional.layer_norm(x.double(), norm.normalized_shape, weight, bias, norm.eps)

    def linear(self, names: Sequence[str], x: Tensor) -> Tensor:
        """The concatenated outputs of several `nn.Linear` that read `x`."""
        given = self.rounding.read(names[0], x.float()).double()
        return torch.cat([functional.linear(given, *self._parameters(name)) for name in names], dim=-1)

    def active(self, hidden: Tensor) -> Tensor:
        """The activation function, after the inner linear layer of a feed-forward network."""
        return ACTIVATIONS[self.config.activation](hidden.double())

    def attended(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attention of queries [N, T, H K] over keys and values [N, H, S, K], where `mask` is True -> [N, T, H K]."""
        found = scaled_dot_product_attention(
            self.heads(query), key.double(), value.double(), mask, self.config.score_scale
        )
        return found.transpose(1, 2).flatten(2)

    def heads(self, x: Tensor) -> Tensor:
        """[N, T, H K] -> [N, H, T, K]."""
        return x.double().reshape(*x.shape[:-1], self.config.num_heads, self.config.head_dim).transpose(1, 2)

    def cache_unit(self, name: str) -> Tensor:
        """The value of the integer 1 in the cache of the projection `name`, per channel: [1, H, 1, K].

        It is 1 for a cache that is not in int8.
        """
        scale = self.rounding.caches.get(name, torch.ones(self.config.attention_width))
        return scale.double().view(1, self.config.num_heads, 1, self.config.head_dim)

    def scores(self, query: Tensor, key: Tensor, head: int) -> Tensor:
        """The scores of a head before the softmax, of queries [R, 1, H K] over keys [R, H, S, K] -> [R, S]."""
        return (self.heads(query)[:, head] @ key[:, head].double().transpose(1, 2)).squeeze(1) * self.config.score_scale

    def log_probs(self, x: Tensor, adjustments: Sequence[Adjustment], masks: Tensor | None = None) -> Tensor:
        """[R, 1, D] -> log-probabilities [R, V] after the adjustments of a step.

        They are minus infinity where `masks` is False.
        """
        given = self.rounding.read("output", x.float()).double()
        embedding, bias = self.model.embedding_matrix("output"), self.model.output_bias
        each = [functional.linear(given, embedding[it].double(), bias[it].double()) for it in blocks(embedding)]
        logits = mask_logits(torch.cat(each, dim=-1), self.config).squeeze(1)
        for row, token, penalty, offset in adjustments:
            logit = float(logits[row, token])
            logits[row, token] = (logit / penalty if logit > 0 else logit * penalty) + offset
        log_probs = logits.log_softmax(-1)
        return log_probs if masks is None else log_probs.masked_fill(~masks, float("-inf"))

    def _parameters(self, name: str) -> tuple[Tensor, Tensor]:
        linear = self._modules[name]
        assert isinstance(linear, nn.Linear)
        return linear.weight.double(), linear.bias.double()
