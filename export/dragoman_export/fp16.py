"""Graphs that compute in fp16 on the tensor cores of GPUs, with half the memory and half the traffic of fp32.

Logits are converted to fp32 before the softmax, whose sums over the vocabulary need it. Every node has a CUDA kernel
and no node computes shapes, so that no node runs on the host: `tests/export/test_cuda_ready.py` checks this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from dragoman_export.builder import GraphBuilder
from dragoman_export.shelf import Shelf, copied, put
from dragoman_model.transformer import Transformer


class Fp16Builder(GraphBuilder):
    """Builds fp16 graphs. Weights are [out, in]."""

    cache_type = TensorProto.FLOAT16
    causal = 1  # CUDA's kernel for one query per row is selected only with it
    in_blocks = False  # the number of blocks would be computed as a shape
    returns_weights = False

    def embed(self, ids: str, positions: str, use: str) -> str:
        scale = self.constant("embedding_scale", self.config.embedding_factor, np.float16)
        x = self.node("Gather", [self.parameter(f"{self.embedding(use)}.weight"), ids])
        return self.node("Add", [self.node("Mul", [x, scale]), positions])

    def linear(self, x: str, *modules: str) -> str:
        weight = self.parameter(*(f"{module}.weight" for module in modules))
        bias = self.parameter(*(f"{module}.bias" for module in modules))
        return self.node("Add", [self.contrib("FusedMatMul", [x, weight], transB=1), bias])

    def feed_forward(self, x: str, module: str) -> str:
        hidden = self.named(self.linear(x, f"{module}.inner"), f"{module}.hidden")
        return self.linear(self.activation(hidden, module), f"{module}.outer")

    def source_lengths(self) -> list[str]:
        return ["source_lengths"]

    def source_attention(self, packed: str, lengths: Sequence[str], **attributes: Any) -> str:
        # CUDA's kernel of GroupQueryAttention is made for decoders: no query sees a later position.
        parts = [f"{packed}.{part}" for part in ("query", "key", "value")]
        self.node("Split", [packed], parts, axis=-1, num_outputs=3)
        inputs = [*parts, "", *lengths]
        return self.contrib("MultiHeadAttention", inputs, num_heads=self.config.num_heads, **attributes)

    def attended_most(self, weights: str, query: str, layer: int, head: int) -> str:
        # CUDA's kernels of attention keep no weights, so the scores of the head are computed again. The scale is left
        # out: it does not change which score is the largest.
        width, ints = self.config.head_dim, np.int64
        place = [self.constant(f"aligned_{name}", [value], ints) for name, value in (
            ("start", head * width), ("end", (head + 1) * width), ("axis", 2)
        )]  # fmt: skip
        of_head = self.node("Slice", [query, *place])  # [R, 1, K]
        keys = self.node("Gather", [f"cross_key_{layer}", self.constant("aligned_head", head, ints)], axis=1)
        scores = self.contrib("FusedMatMul", [of_head, keys], transB=1)  # [R, 1, positions]
        zero, axis = self.constant("aligned_zero", [0], ints), self.constant("aligned_first_axis", [0], ints)
        numbers = self.constant("source_position_numbers", np.arange(2 * self.config.max_positions), np.int32)
        positions = self.node("Slice", [numbers, zero, self.node("Shape", [keys], start=1, end=2), axis])
        lengths = self.node("Unsqueeze", ["source_lengths", self.constant("aligned_new_axes", [1, 2], ints)])
        valid = self.node("Less", [positions, lengths])  # [R, 1, positions]
        lowest = self.constant("aligned_lowest", -np.inf, np.float16)
        return self.node("ArgMax", [self.node("Where", [valid, scores, lowest])], "aligned", axis=-1, keepdims=0)

    def logits(self, x: str) -> str:
        matrix = self.parameter(f"{self.embedding('output')}.weight")
        product = self.contrib("FusedMatMul", [x, matrix], transB=1)  # [R, 1, padded V]
        bias = self.constant("masked_output_bias", self.masked_output_bias(), np.float32)
        return self.node("Add", [self.node("Cast", [product], to=TensorProto.FLOAT), bias])


def rounded_to_half(model: Transformer, shelf: Shelf) -> Transformer:
    """A copy of the model with parameters and positions rounded to fp16, kept on `shelf`. It computes in fp32."""
    rounded = copied(model)
    for module in rounded.modules():
        for name, tensor in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
            put(module, name, shelf.keep(tensor.detach().half().float()))
    return rounded
