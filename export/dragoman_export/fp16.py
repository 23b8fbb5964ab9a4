"""Graphs that compute in fp16, for GPUs: half the memory and half the traffic of fp32, on the tensor cores.

Logits are widened to fp32 before the softmax, as sums over a vocabulary need it. Every node has a CUDA kernel and none
computes shapes, so that nothing runs on the host in between: `tests/export/test_cuda_ready.py` holds that.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from onnx import TensorProto

from dragoman_export.builder import GraphBuilder
from dragoman_model.transformer import Transformer


class Fp16Builder(GraphBuilder):
    """Activations are [N, T, D] throughout, so that no shape need be computed. Weights are as PyTorch's, [out, in]."""

    cache_type = TensorProto.FLOAT16
    causal = 1  # with it, and it alone, CUDA takes the kernel that is made for one query a row
    in_blocks = False  # how many blocks to take is a computation of shapes

    def embed(self, ids: str, positions: str) -> str:
        scale = self.constant("embedding_scale", math.sqrt(self.config.d_model), np.float16)
        x = self.node("Gather", [self.parameter("embedding.weight"), ids])  # [N, T, D]
        return self.node("Add", [self.node("Mul", [x, scale]), positions])

    def linear(self, x: str, *modules: str) -> str:
        weight = self.parameter(*(f"{module}.weight" for module in modules))
        bias = self.parameter(*(f"{module}.bias" for module in modules))
        return self.node("Add", [self.contrib("FusedMatMul", [x, weight], transB=1), bias])

    def feed_forward(self, x: str, module: str) -> str:
        hidden = self.named(self.linear(x, f"{module}.inner"), f"{module}.hidden")
        return self.linear(self.node("Relu", [hidden]), f"{module}.outer")

    def logits(self, x: str) -> str:
        product = self.contrib("FusedMatMul", [x, self.parameter("embedding.weight")], transB=1)  # [R, 1, padded V]
        flat = self.node("Squeeze", [product, self.constant("one_axis", [1], np.int64)])
        bias = self.constant("masked_output_bias", self.masked_output_bias(), np.float32)
        return self.node("Add", [self.node("Cast", [flat], to=TensorProto.FLOAT), bias])


def rounded_to_half(model: Transformer) -> Transformer:
    """The same model with all that it multiplies with rounded to fp16, but computing in fp32."""
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*rounded.parameters(), *rounded.buffers()):  # positions may be either
            tensor.copy_(tensor.half().float())
    return rounded
