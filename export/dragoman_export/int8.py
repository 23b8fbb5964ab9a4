"""Graphs that multiply in int8: activations, weights and attention caches are 8-bit integers. Their sums are exact.

Every scale is a constant of the bundle, measured by `calibration`, so that a translation does not depend on the other
rows of the batch. Layer norms, softmax and the residual stream remain in fp32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from dragoman_export.builder import GraphBuilder
from dragoman_export.quantise import CACHE_SCALE, INPUT_SCALE, WEIGHT_SCALE, matrix_name, zero_point


class Int8Builder(GraphBuilder):
    """Builds int8 graphs. MatMulIntegerToFloat takes activations of any shape.

    MatMulIntegerToFloat requires unsigned activations. Their zero point is 128, and after an activation function the
    integer that lets its least value be the integer 0.
    """

    cache_type = TensorProto.INT8

    def embed(self, ids: str, positions: str, use: str) -> str:
        name = self.embedding(use)
        x = self.node("Gather", [self.parameter(f"{name}.weight"), ids])  # [..., D] of int8
        scale = self.node("Gather", [self.parameter(f"{name}.scale"), ids])  # [..., 1]
        x = self.node("Mul", [self.node("Cast", [x], to=TensorProto.FLOAT), scale])
        return self.node("Add", [x, positions])

    def linear(self, x: str, *modules: str) -> str:
        return self._product(self._quantised(x, matrix_name(modules)), matrix_name(modules))

    def feed_forward(self, x: str, module: str) -> str:
        inner, outer = f"{module}.inner", f"{module}.outer"
        hidden = self.named(self._product(self._quantised(x, inner), inner), f"{module}.hidden")
        kind = self.config.activation
        zero = zero_point(self.weights.tensors[f"{outer}{INPUT_SCALE}"].item(), kind)
        # Quantisation to unsigned integers with zero point 0 clips negative numbers: this is the ReLU.
        active = hidden if kind == "relu" else self.activation(hidden, module)
        return self._product(self._quantised(active, outer, zero), outer, zero)

    def logits(self, x: str) -> str:
        table = self.node(
            "Transpose", [self.parameter(f"{self.embedding('output')}.weight")], perm=[1, 0]
        )  # done once, at the start
        bias = self.constant("masked_output_bias", self.masked_output_bias(), np.float32)
        scales = [self.parameter(f"output{INPUT_SCALE}"), self.parameter(f"output{WEIGHT_SCALE}")]
        zeros = [self._zero(128), self.constant("output.weight_zero", 0, np.int8)]
        inputs = [self._quantised(x, "output"), table, *scales, *zeros, bias]
        return self.contrib("MatMulIntegerToFloat", inputs)

    def cached(self, x: str) -> str:
        # The weights of the projection include the scales of the cache: QuantizeLinear with a scale per channel is many
        # times slower.
        inputs = [x, self.constant("cache_unit", 1, np.float32), self.constant("cache_zero", 0, np.int8)]
        return self.node("QuantizeLinear", inputs)

    def cache_scales(self, attention: str) -> tuple[list[str], dict[str, Any]]:
        scales = [self.parameter(f"{attention}.{part}{CACHE_SCALE}") for part in ("key", "value")]
        kinds = {"k_quant_type": "PER_CHANNEL", "v_quant_type": "PER_CHANNEL", "kv_cache_bit_width": 8}
        return ["", "", "", "", "", *scales], kinds

    def _quantised(self, x: str, name: str, zero: int = 128) -> str:
        return self.node("QuantizeLinear", [x, self.parameter(f"{name}{INPUT_SCALE}"), self._zero(zero)])

    def _product(self, x: str, name: str, zero: int = 128) -> str:
        scales = [self.parameter(f"{name}{INPUT_SCALE}"), self.parameter(f"{name}{WEIGHT_SCALE}")]
        zeros = [self._zero(zero), self.constant(f"{name}.weight_zero", 0, np.int8)]
        inputs = [x, self.parameter(f"{name}.weight"), *scales, *zeros, self.parameter(f"{name}.bias")]
        return self.contrib("MatMulIntegerToFloat", inputs)

    def _zero(self, zero: int) -> str:
        return self.constant(f"zero_{zero}", zero, np.uint8)
