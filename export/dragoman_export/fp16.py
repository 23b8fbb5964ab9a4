"""Graphs that compute in fp16 on the tensor cores of GPUs, with half the memory and half the traffic of fp32.

Logits are converted to fp32 before the softmax, whose sums over the vocabulary need it. Every node has a CUDA kernel
and no node computes shapes, so that no node runs on the host: `tests/export/test_cuda_ready.py` checks this.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from onnx import TensorProto

from dragoman_export.builder import GraphBuilder
from dragoman_model.transformer import Transformer


class Fp16Builder(GraphBuilder):
    """Builds fp16 graphs. Weights are [out, in]."""

    cache_type = TensorProto.FLOAT16
    causal = 1  # CUDA's kernel for one query per row is selected only with it
    in_blocks = False  # the number of blocks would be computed as a shape

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

    def source_attention(self, packed: str, lengths: Sequence[str], output: str = "", **attributes: Any) -> str:
        # CUDA's kernel of GroupQueryAttention is made for decoders: no query sees a later position.
        parts = [f"{packed}.{part}" for part in ("query", "key", "value")]
        self.node("Split", [packed], parts, axis=-1, num_outputs=3)
        inputs = [*parts, "", *lengths]
        return self.contrib("MultiHeadAttention", inputs, output, num_heads=self.config.num_heads, **attributes)

    def logits(self, x: str) -> str:
        matrix = self.parameter(f"{self.embedding('output')}.weight")
        product = self.contrib("FusedMatMul", [x, matrix], transB=1)  # [R, 1, padded V]
        flat = self.node("Squeeze", [product, self.constant("one_axis", [1], np.int64)])
        bias = self.constant("masked_output_bias", self.masked_output_bias(), np.float32)
        return self.node("Add", [self.node("Cast", [flat], to=TensorProto.FLOAT), bias])


def rounded_to_half(model: Transformer) -> Transformer:
    """A copy of the model with parameters and positions rounded to fp16. It computes in fp32."""
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*rounded.parameters(), *rounded.buffers()):  # positions may be either
            tensor.copy_(tensor.half().float())
    return rounded
