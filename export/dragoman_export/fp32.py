"""Graphs that compute in fp32."""

from __future__ import annotations

import numpy as np

from dragoman_export.builder import GraphBuilder


class Fp32Builder(GraphBuilder):
    """Builds fp32 graphs. All activations are matrices, as required by Gemm, which also adds the bias.

    Weights have PyTorch's layout, [out, in]. ONNX Runtime packs them once, when the session starts.
    """

    flat = True

    def embed(self, ids: str, positions: str, use: str) -> str:
        scale = self.constant("embedding_scale", self.config.embedding_factor, np.float32)
        x = self.node("Gather", [self.parameter(f"{self.embedding(use)}.weight"), ids])
        return self.rows(self.node("Add", [self.node("Mul", [x, scale]), positions]), self.config.d_model)

    def linear(self, x: str, *modules: str) -> str:
        weight = self.parameter(*(f"{module}.weight" for module in modules))
        bias = self.parameter(*(f"{module}.bias" for module in modules))
        return self.node("Gemm", [x, weight, bias], transB=1)

    def feed_forward(self, x: str, module: str) -> str:
        hidden = self.named(self.linear(x, f"{module}.inner"), f"{module}.hidden")
        return self.linear(self.activation(hidden, module), f"{module}.outer")

    def logits(self, x: str) -> str:
        bias = self.constant("masked_output_bias", self.masked_output_bias(), np.float32)
        return self.node("Gemm", [x, self.parameter(f"{self.embedding('output')}.weight"), bias], transB=1)

    def rows(self, x: str, width: int) -> str:
        return self.reshape(x, -1, width)

    def queries(self, x: str, width: int) -> str:
        return self.reshape(x, 0, 1, width)
