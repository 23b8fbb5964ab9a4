"""The two graphs of a bundle, written node by node: no tracing, so the same model always gives the same nodes.

Operators without a domain are those of ONNX opset 21; those of `com.microsoft` are specified in ONNX Runtime's
docs/ContribOperators.md. Tensor letters: B batch, S source length, D `d_model`, H heads, K `head_dim`, L decoder
layers, V vocabulary, R rows of the running batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dragoman_export.weights import POSITIONS, Weights, cross_key_value, qkv
from dragoman_model.config import ModelConfig
from dragoman_model.reference_decode import NEVER_PRODUCED
from dragoman_service.manifest import tensor_names

OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
IR_VERSION = 10
LAYER_NORM_EPSILON = 1e-5


class GraphBuilder:
    """Collects nodes and initializers; every method that adds nodes returns the name of the output."""

    def __init__(self, config: ModelConfig, weights: Weights) -> None:
        self.config = config
        self.weights = weights
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], outputs: str | Sequence[str] = "", **attributes: Any) -> str:
        """Add a node; the output is named after it unless named by the caller."""
        name = f"{op}_{len(self._nodes)}"
        outputs = [outputs or name] if isinstance(outputs, str) else list(outputs)
        self._nodes.append(helper.make_node(op, list(inputs), outputs, name=name, **attributes))
        return outputs[0]

    def contrib(self, op: str, inputs: Sequence[str], outputs: str | Sequence[str] = "", **attributes: Any) -> str:
        """Add a node of ONNX Runtime's own operators."""
        return self.node(op, inputs, outputs, domain="com.microsoft", **attributes)

    def constant(self, name: str, value: Any, dtype: Any) -> str:
        """A tensor stored in the graph itself."""
        self._initializers.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def parameter(self, *parts: str) -> str:
        """A tensor of the weights file; several neighbours make one."""
        name = parts[0] if len(parts) == 1 else f"{parts[0]}..{parts[-1]}"
        if name not in self._initializers:
            self._initializers[name] = self.weights.initializer(name, parts)
        return name

    def linear(self, x: str, weights: Sequence[str], biases: Sequence[str]) -> str:
        """[N, in] -> [N, out], with weights stored as PyTorch does, [out, in]; packed once when the session starts."""
        return self.node("Gemm", [x, self.parameter(*weights), self.parameter(*biases)], transB=1)

    def linear_of(self, x: str, module: str) -> str:
        """`linear` with the parameters of one `nn.Linear`."""
        return self.linear(x, [f"{module}.weight"], [f"{module}.bias"])

    def reshape(self, x: str, *shape: int) -> str:
        """A new shape over the same memory; 0 keeps a dimension, -1 takes what is left."""
        name = "shape_" + "_".join(map(str, shape))
        return self.node("Reshape", [x, self.constant(name, shape, np.int64)])

    def embed(self, ids: str, positions: str) -> str:
        """Ids, and vectors of their positions broadcastable to them -> embeddings plus positions (section 3.4, 3.5)."""
        scale = self.constant("embedding_scale", math.sqrt(self.config.d_model), np.float32)
        x = self.node("Gather", [self.parameter("embedding.weight"), ids])
        return self.node("Add", [self.node("Mul", [x, scale]), positions])

    def feed_forward(self, x: str, module: str) -> str:
        """[N, D] -> [N, D]."""
        return self.linear_of(self.node("Relu", [self.linear_of(x, f"{module}.inner")]), f"{module}.outer")

    def model(
        self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
    ) -> onnx.ModelProto:
        """The finished graph."""
        graph = helper.make_graph(self._nodes, name, inputs, outputs, list(self._initializers.values()))
        return helper.make_model(graph, opset_imports=OPSETS, ir_version=IR_VERSION, producer_name="dragoman")


class ResidualStream:
    """What flows through a stack: sub-layers read `normed` and add to the stream; addition and layer norm are one node.

    With post-norm every sub-layer is followed by its own norm. With pre-norm the norm before a sub-layer is fused with
    the addition after the one before it, and the final norm of the stack with the last addition.
    """

    def __init__(self, builder: GraphBuilder, x: str, residuals: Sequence[str], final_norm: str) -> None:
        """`x` [N, D]; `residuals` are the names of the stack's `Residual` modules in order."""
        self._builder = builder
        self._pre_norm = builder.config.norm == "pre"
        norms = [f"{residual}.norm" for residual in residuals]
        self._norms = iter([*norms[1:], final_norm] if self._pre_norm else norms)
        self._stream = x
        self.normed = x
        """[N, D]: what the next sub-layer reads, or the stack's output."""
        if self._pre_norm:
            self.normed = builder.node(
                "LayerNormalization", [x, *self._parameters(norms[0])], epsilon=LAYER_NORM_EPSILON
            )

    def add(self, y: str) -> None:
        """A sub-layer's output [N, D] joins the stream."""
        inputs = [y, self._stream, *self._parameters(next(self._norms))]
        self.normed = f"normed_after_{y}"
        stream = f"stream_after_{y}" if self._pre_norm else ""
        outputs = [self.normed, "", "", stream] if self._pre_norm else [self.normed]
        self._builder.contrib("SkipLayerNormalization", inputs, outputs, epsilon=LAYER_NORM_EPSILON)
        self._stream = stream or self.normed

    def _parameters(self, norm: str) -> tuple[str, str]:
        return self._builder.parameter(f"{norm}.weight"), self._builder.parameter(f"{norm}.bias")


def build_encoder(config: ModelConfig, weights: Weights) -> onnx.ModelProto:
    """`source` [B, S], all of one length and so without padding or mask -> `cross_kv` [2 L, B, H, S, K].

    Keys of decoder layer l stand at 2 l, its values at 2 l + 1.
    """
    builder = GraphBuilder(config, weights)
    heads, width, head_dim = config.num_heads, config.d_model, config.head_dim
    length = builder.node("Shape", ["source"], start=1)  # [1]
    start, axis = builder.constant("slice_start", [0], np.int64), builder.constant("slice_axis", [0], np.int64)
    positions = builder.node("Slice", [builder.parameter(POSITIONS), start, length, axis])  # [S, D]
    batched = builder.node(
        "Concat", [builder.node("Shape", ["source"]), builder.constant("rest", [-1], np.int64)], axis=0
    )
    x = builder.reshape(builder.embed("source", positions), -1, width)  # [B S, D]
    layers = [f"encoder.{layer}" for layer in range(config.encoder_layers)]
    residuals = [f"{layer}.{name}_residual" for layer in layers for name in ("self_attention", "feed_forward")]
    stream = ResidualStream(builder, x, residuals, "encoder_norm")
    for layer in layers:
        attention = f"{layer}.self_attention"
        packed = builder.linear(stream.normed, qkv(attention, "weight"), qkv(attention, "bias"))
        packed = builder.node("Reshape", [packed, batched])  # [B, S, 3 D]
        parts = [f"{attention}_{part}" for part in ("query", "key", "value")]
        builder.node("Split", [packed], parts, axis=-1, num_outputs=3)
        attended = builder.contrib("MultiHeadAttention", parts, num_heads=heads)  # [B, S, D]
        stream.add(builder.linear_of(builder.reshape(attended, -1, width), f"{attention}.output"))
        stream.add(builder.feed_forward(stream.normed, f"{layer}.feed_forward"))
    cross = builder.linear(stream.normed, cross_key_value(config, "weight"), cross_key_value(config, "bias"))
    split = builder.constant("split_heads", [2 * config.decoder_layers, heads, head_dim], np.int64)
    shape = builder.node("Concat", [builder.node("Shape", ["source"]), split], axis=0)
    cross = builder.node("Reshape", [cross, shape])  # [B, S, 2 L, H, K]
    builder.node("Transpose", [cross], "cross_kv", perm=[2, 0, 3, 1, 4])
    output = _value(
        "cross_kv", TensorProto.FLOAT, [2 * config.decoder_layers, "batch", heads, "source_length", head_dim]
    )
    return builder.model("encoder", [_value("source", TensorProto.INT64, ["batch", "source_length"])], [output])


def build_decoder(config: ModelConfig, weights: Weights) -> onnx.ModelProto:
    """One step of all rows; see `tensor_names` for inputs and outputs, and `decoder_signature` for their shapes.

    GroupQueryAttention with one query head a key head is multi-head attention that appends to its cache in place, each
    row at its own position. Cross-attention is the same operator with nothing to append. Both want 3-D queries.
    """
    builder = GraphBuilder(config, weights)
    width = config.d_model
    positions = builder.node("Gather", [builder.parameter(POSITIONS), "positions"])
    x = builder.embed("tokens", positions)  # [R, D]
    last_source = builder.node("Sub", ["source_lengths", builder.constant("one", 1, np.int32)])  # [R]
    layers = [f"decoder.{layer}" for layer in range(config.decoder_layers)]
    names = ("self_attention", "cross_attention", "feed_forward")
    stream = ResidualStream(
        builder, x, [f"{layer}.{name}_residual" for layer in layers for name in names], "decoder_norm"
    )
    nothing = ""
    for index, layer in enumerate(layers):
        attention = f"{layer}.self_attention"
        packed = builder.linear(stream.normed, qkv(attention, "weight"), qkv(attention, "bias"))
        query = builder.reshape(packed, 0, 1, 3 * width)
        attended = _cached_attention(builder, [query, "", ""], "self", index, ("positions", "total_length"))
        stream.add(builder.linear_of(attended, f"{attention}.output"))
        attention = f"{layer}.cross_attention"
        query = builder.reshape(builder.linear_of(stream.normed, f"{attention}.query"), 0, 1, width)
        nothing = nothing or builder.node(
            "Gather", [query, builder.constant("none", [], np.int64)], axis=1
        )  # [R, 0, D]
        lengths = (last_source, "total_source_length")
        attended = _cached_attention(builder, [query, nothing, nothing], "cross", index, lengths)
        stream.add(builder.linear_of(attended, f"{attention}.output"))
        stream.add(builder.feed_forward(stream.normed, f"{layer}.feed_forward"))
    _candidates(builder, stream.normed)
    return builder.model("decoder", *decoder_signature(config))


def _cached_attention(
    builder: GraphBuilder, query_key_value: Sequence[str], kind: str, layer: int, lengths: Sequence[str]
) -> str:
    """GroupQueryAttention over the `kind` cache of a layer; returns [R, D].

    `lengths` are, per row, the positions valid before the row's own, or with nothing to append all but one; and the
    most positions of any row. At one query a row "causal" changes no result: 0 chooses the kernel that runs all rows
    in one parallel loop rather than one after the other.
    """
    heads = builder.config.num_heads
    attended = f"{kind}_attended_{layer}"
    builder.contrib(
        "GroupQueryAttention",
        [*query_key_value, f"{kind}_key_{layer}", f"{kind}_value_{layer}", *lengths],
        [attended, f"new_{kind}_key_{layer}", f"new_{kind}_value_{layer}"],
        num_heads=heads,
        kv_num_heads=heads,
        causal=0,
    )
    return builder.reshape(attended, -1, builder.config.d_model)


def _candidates(builder: GraphBuilder, x: str) -> None:
    """[R, D] -> logits, adjusted, -> the likeliest ids and their log-probabilities over the whole vocabulary."""
    bias = builder.weights.tensors["output_bias"].copy()
    bias[list(NEVER_PRODUCED)] = -np.inf  # masked here, so that no one who searches need know of them
    masked = builder.constant("masked_output_bias", bias, np.float32)
    logits = builder.node("Gemm", [x, builder.parameter("embedding.weight"), masked], transB=1)  # [R, V]
    old = builder.node("GatherND", [logits, "adjust_index"])  # [n]
    negative = builder.node("Less", [old, builder.constant("zero", 0, np.float32)])
    larger, smaller = (builder.node(op, [old, "adjust_penalty"]) for op in ("Mul", "Div"))
    new = builder.node("Add", [builder.node("Where", [negative, larger, smaller]), "adjust_bias"])
    logits = builder.node("ScatterND", [logits, "adjust_index", new])
    log_probs = builder.node("LogSoftmax", [logits], axis=-1)
    builder.node("TopK", [log_probs, "num_candidates"], ["candidate_log_probs", "candidate_ids"], axis=-1)


def decoder_signature(config: ModelConfig) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """Inputs and outputs of the decoder graph with their types and shapes."""
    fixed: dict[str, tuple[int, list[str | int]]] = {
        "tokens": (TensorProto.INT64, ["rows"]),
        "positions": (TensorProto.INT32, ["rows"]),
        "total_length": (TensorProto.INT32, []),
        "source_lengths": (TensorProto.INT32, ["rows"]),
        "total_source_length": (TensorProto.INT32, []),
        "num_candidates": (TensorProto.INT64, [1]),
        "adjust_index": (TensorProto.INT64, ["adjustments", 2]),
        "adjust_penalty": (TensorProto.FLOAT, ["adjustments"]),
        "adjust_bias": (TensorProto.FLOAT, ["adjustments"]),
        "candidate_ids": (TensorProto.INT64, ["rows", "candidates"]),
        "candidate_log_probs": (TensorProto.FLOAT, ["rows", "candidates"]),
    }

    def value(name: str) -> onnx.ValueInfoProto:
        if name in fixed:
            return _value(name, *fixed[name])
        capacity = "source_capacity" if "cross" in name else "capacity"
        return _value(name, TensorProto.FLOAT, ["rows", config.num_heads, capacity, config.head_dim])

    names = tensor_names(config.decoder_layers)
    return [value(name) for name in names.decoder_inputs], [value(name) for name in names.decoder_outputs]


def _value(name: str, kind: int, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))
