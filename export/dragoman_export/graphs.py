"""The two graphs of a bundle, encoder and decoder. They are built node by node, without tracing, so that the same model
always has the same nodes.

Letters of tensor shapes: B sources, S the length of the longest one, N tokens of all sources, D `d_model`, H heads, K
`head_dim`, L decoder layers, V vocabulary, R rows of the running batch. Tensors between the parts of the network have
fixed names: see `joints`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from dragoman_export.builder import GraphBuilder
from dragoman_export.joints import ENCODER, attended
from dragoman_export.weights import BLOCK, cross_key_value, qkv
from dragoman_model.config import ModelConfig
from dragoman_service.bundle.manifest import AlignmentHead, aligning_head, tensor_names

AFTER_SOFTMAX = 2
"""The value of `qk_output` of GroupQueryAttention for weights."""


class ResidualStream:
    """The residual stream of a stack. A sub-layer reads `normed`, and its output is added with `add`.

    With post-norm, every addition is followed by the norm of its sub-layer. With pre-norm, it is followed by the norm
    of the next sub-layer. The last one may be followed by a final norm of the stack.

    Addition and norm are two nodes, because the CPU kernel of SkipLayerNormalization, which does both, is several times
    slower.
    """

    def __init__(self, builder: GraphBuilder, x: str, residuals: Sequence[str], final_norm: str) -> None:
        """Start the stream.

        Args:
            builder: Collects the nodes.
            x: The input of the stack, [..., D].
            residuals: The names of the stack's `Residual` modules, in order.
            final_norm: The name of the final norm; empty if there is none.
        """
        self._builder = builder
        self._pre_norm = builder.config.norm == "pre"
        norms = [f"{residual}.norm" for residual in residuals]
        self._norms = iter([*norms[1:], ""] if self._pre_norm else norms)
        self._residuals = list(residuals)
        self._final_norm = final_norm
        self._stream = x
        self.normed = layer_norm(builder, x, norms[0]) if self._pre_norm else x
        """[..., D], the input of the next sub-layer; after the last one, the output of the stack."""

    def add(self, y: str) -> None:
        """Add the output of a sub-layer, [..., D], to the stream."""
        self._stream = self._builder.node("Add", [self._stream, y], f"{self._residuals.pop(0)}.sum")
        self.normed = self._norm(self._stream, next(self._norms))
        if not self._pre_norm:
            self._stream = self.normed
        if not self._residuals:
            self.normed = self._norm(self.normed, self._final_norm)

    def _norm(self, x: str, norm: str) -> str:
        return layer_norm(self._builder, x, norm) if norm else x


def layer_norm(builder: GraphBuilder, x: str, norm: str) -> str:
    """The layer norm `norm` of [..., D]. Its output is a joint."""
    parameters = [builder.parameter(f"{norm}.{part}") for part in ("weight", "bias")]
    epsilon = builder.config.layer_norm_epsilon
    return builder.node("LayerNormalization", [x, *parameters], f"{norm}.output", epsilon=epsilon)


def build_encoder(builder: GraphBuilder) -> onnx.ModelProto:
    """The encoder graph: sources of any lengths -> `cross_kv` [2 L, H, N, K]. `cross_kv[2 l]` has the keys of decoder
    layer l, `cross_kv[2 l + 1]` its values.

    The tokens of all sources stand one after the other, so that linear layers and norms compute nothing for padding.
    Attention alone is computed over padded sources, [B, S]. `encoder_signature` has the inputs.
    """
    config = builder.config
    table = builder.parameter(builder.table_of_positions(ENCODER))
    positions = builder.node("Gather", [table, "source_positions"])  # [N, D]
    x = builder.named(builder.embed("source", positions, "source"), "encoder.embedded")
    x = layer_norm(builder, x, "encoder_embedding_norm") if config.embedding_norm else x
    layers = [f"encoder.{layer}" for layer in range(config.encoder_layers)]
    residuals = [f"{layer}.{name}_residual" for layer in layers for name in ("self_attention", "feed_forward")]
    stream = ResidualStream(builder, x, residuals, "encoder_norm" if config.ends_with_norm else "")
    lengths = builder.source_lengths()
    for layer in layers:
        attention = f"{layer}.self_attention"
        packed = builder.named(builder.linear(stream.normed, *qkv(attention)), f"{attention}.packed")
        padded = builder.node("Gather", [packed, "cells"])  # [B, S, 3 H K]
        found = builder.source_attention(padded, lengths, **_attention_scale(config))  # [B, S, H K]
        found = builder.node("GatherND", [found, "places"], attended(attention))  # [N, H K]
        stream.add(_output(builder, found, attention))
        stream.add(_feed_forward(builder, stream.normed, layer))
    cross = builder.linear(stream.normed, *cross_key_value(config))  # [N, 2 L H K]
    cross = builder.reshape(builder.cached(cross), -1, 2 * config.decoder_layers, config.num_heads, config.head_dim)
    builder.node("Transpose", [cross], "cross_kv", perm=[1, 2, 0, 3])
    return builder.model("encoder", *encoder_signature(config, builder.cache_type))


def build_decoder(builder: GraphBuilder, alignment: AlignmentHead | None = None) -> onnx.ModelProto:
    """The decoder graph: one step of all rows. `decoder_signature` has the shapes of its inputs and outputs.

    GroupQueryAttention with one query head per key head is multi-head attention that appends to its cache in place,
    each row at its own position. Cross-attention is the same operator with no keys and values to append.

    Args:
        builder: Collects the nodes.
        alignment: The head of the cross-attention that gives `aligned`, as `Manifest.alignment` has it.
    """
    config = builder.config
    aligning = aligning_head(alignment, config.decoder_layers)
    width = config.attention_width
    x = builder.embed("tokens", builder.node("Gather", [builder.decoder_positions(), "positions"]), "target")
    x = builder.named(x, "decoder.embedded")
    x = layer_norm(builder, x, "decoder_embedding_norm") if config.embedding_norm else x
    last_source = builder.node("Sub", ["source_lengths", builder.constant("one", 1, np.int32)])  # [R]
    layers = [f"decoder.{layer}" for layer in range(config.decoder_layers)]
    names = ("self_attention", "cross_attention", "feed_forward")
    residuals = [f"{layer}.{name}_residual" for layer in layers for name in names]
    stream = ResidualStream(builder, x, residuals, "decoder_norm" if config.ends_with_norm else "")
    nothing = ""
    for index, layer in enumerate(layers):
        attention = f"{layer}.self_attention"
        query = builder.named(builder.linear(stream.normed, *qkv(attention)), f"{attention}.packed")
        query = builder.queries(query, 3 * width)
        found = _cached_attention(builder, [query, "", ""], "self", index, ("positions", "total_length"))
        stream.add(_output(builder, found, attention))
        attention = f"{layer}.cross_attention"
        query = builder.named(builder.linear(stream.normed, f"{attention}.query"), f"{attention}.queries")
        query = builder.queries(query, width)
        nothing = nothing or builder.node(
            "Gather", [query, builder.constant("none", [], np.int64)], axis=1
        )  # [R, 0, H K]
        lengths = (last_source, "total_source_length")
        aligned = index == aligning.layer
        weights = "weights" if aligned and builder.returns_weights else ""
        found = _cached_attention(builder, [query, nothing, nothing], "cross", index, lengths, weights)
        if aligned:
            builder.attended_most(weights, query, index, aligning.head)
        stream.add(_output(builder, found, attention))
        stream.add(_feed_forward(builder, stream.normed, layer))
    _candidates(builder, _adjusted(builder, builder.logits(stream.normed)))
    return builder.model("decoder", *decoder_signature(config, builder.cache_type, builder.num_words))


def _output(builder: GraphBuilder, found: str, attention: str) -> str:
    """The output projection of an attention, whose result is added to the residual stream."""
    return builder.named(builder.linear(found, f"{attention}.output"), f"{attention}.result")


def _feed_forward(builder: GraphBuilder, x: str, layer: str) -> str:
    """The feed-forward network of a layer, whose result is added to the residual stream."""
    return builder.named(builder.feed_forward(x, f"{layer}.feed_forward"), f"{layer}.feed_forward.result")


def _cached_attention(
    builder: GraphBuilder,
    query_key_value: Sequence[str],
    kind: str,
    layer: int,
    lengths: Sequence[str],
    weights: str = "",
) -> str:
    """GroupQueryAttention over the `kind` cache of a layer. Returns an activation.

    Args:
        builder: Collects the nodes.
        query_key_value: The inputs query, key and value.
        kind: "self" or "cross".
        layer: The number of the decoder layer.
        lengths: Two inputs. The first is the number of past positions of each row; for cross-attention, which appends
            nothing, one less than the length of its source. The second is the largest number of positions of any row.
        weights: A name for the weights of the attention, [R, H, 1, positions], if they are wanted.
    """
    heads = builder.config.num_heads
    attention = f"decoder.{layer}.{kind}_attention"
    scales, kinds = builder.cache_scales(attention)
    found = builder.contrib(
        "GroupQueryAttention",
        [*query_key_value, f"{kind}_key_{layer}", f"{kind}_value_{layer}", *lengths, *scales],
        [attended(attention), f"new_{kind}_key_{layer}", f"new_{kind}_value_{layer}", *filter(None, [weights])],
        num_heads=heads,
        kv_num_heads=heads,
        causal=builder.causal,
        **({"qk_output": AFTER_SOFTMAX} if weights else {}),
        **_attention_scale(builder.config),
        **kinds,
    )
    return builder.rows(found, builder.config.attention_width)


def _attention_scale(config: ModelConfig) -> dict[str, float]:
    """The attribute `scale` of an attention, which is left out where it is that of the operators."""
    return {} if config.attention_scale is None else {"scale": config.attention_scale}


def _adjusted(builder: GraphBuilder, logits: str) -> str:
    """Apply the adjustments of the step to logits [R, V] or [R, 1, V] -> [R, V]; see `plan.Adjustment`.

    ScatterElements works in place where the memory planner knows that its input and output have the same shape.
    ScatterND would copy the logits in every step.
    """
    flat = builder.shaped(builder.reshape(logits, -1), ["logits"])
    old = builder.node("Gather", [flat, "adjust_index"])  # [n]
    negative = builder.node("Less", [old, builder.constant("zero", 0, np.float32)])
    larger, smaller = (builder.node(op, [old, "adjust_penalty"]) for op in ("Mul", "Div"))
    new = builder.node("Add", [builder.node("Where", [negative, larger, smaller]), "adjust_bias"])
    changed = builder.shaped(builder.node("ScatterElements", [flat, "adjust_index", new], axis=0), ["logits"])
    return builder.shaped(builder.reshape(changed, -1, builder.num_words), ["rows", builder.num_words])


def _candidates(builder: GraphBuilder, logits: str) -> None:
    """Logits [R, V] -> the k likeliest ids, and their log-probabilities over the whole vocabulary.

    On CPUs, TopK compares numbers one by one, and ReduceMax many at a time. So the k blocks of words with the largest
    maxima are found first. Their words include the k likeliest ones, for every k.
    """
    log_probs = builder.node("LogSoftmax", [logits], axis=-1)
    _selected_candidates(builder, log_probs)
    if not builder.in_blocks:
        builder.node("TopK", [log_probs, "num_candidates"], ["candidate_log_probs", "candidate_ids"], axis=-1)
        return
    words = builder.num_words
    blocks = builder.reshape(log_probs, -1, words // BLOCK, BLOCK)
    maxima = builder.node("ReduceMax", [blocks, builder.constant("last_axis", [-1], np.int64)])  # [R, blocks, 1]
    most = builder.constant("num_blocks", [words // BLOCK], np.int64)
    best = ["best_maxima", "best_blocks"]
    builder.node("TopK", [maxima, builder.node("Min", ["num_candidates", most])], best, axis=1)  # [R, k, 1]
    chosen = builder.reshape(builder.node("GatherND", [blocks, "best_blocks"], batch_dims=1), 0, -1)  # [R, k BLOCK]
    builder.node("TopK", [chosen, "num_candidates"], ["candidate_log_probs", "places"], axis=-1)
    ids = builder.constant("ids", np.arange(words).reshape(-1, BLOCK), np.int64)
    chosen_ids = builder.reshape(builder.node("Gather", [ids, "best_blocks"]), 0, -1)  # [R, k BLOCK]
    builder.node("GatherElements", [chosen_ids, "places"], "candidate_ids", axis=1)


def _selected_candidates(builder: GraphBuilder, log_probs: str) -> None:
    """The likeliest ids of some rows, which want more candidates than the others, or may have some words only.

    `masks` is added to their log-probabilities: 0, or minus infinity for the words that a row may not have. Without
    `selected_rows` these nodes compute nothing. They read no logits: the memory planner would give the softmax a second
    buffer.
    """
    chosen = builder.node("Add", [builder.node("Gather", [log_probs, "selected_rows"]), "masks"])  # [selected, V]
    builder.node("TopK", [chosen, "num_selected_candidates"], ["selected_log_probs", "selected_ids"], axis=-1)


def encoder_signature(
    config: ModelConfig, cache_type: int
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """The inputs and the outputs of the encoder graph, with their types and shapes.

    `source` has the tokens of all sources, one source after the other, and `source_positions` the place of each token
    in its source. `cells` says which token stands in each cell of the padded sources; cells of padding have any token.
    `places` has the cell of each token: the number of its source, and its place in it. `total_source_length` is S.
    """
    heads, head_dim = config.num_heads, config.head_dim
    values = {
        "source": _value("source", TensorProto.INT64, ["tokens"]),
        "source_positions": _value("source_positions", TensorProto.INT64, ["tokens"]),
        "cells": _value("cells", TensorProto.INT64, ["sources", "longest"]),
        "places": _value("places", TensorProto.INT64, ["tokens", 2]),
        "source_lengths": _value("source_lengths", TensorProto.INT32, ["sources"]),
        "total_source_length": _value("total_source_length", TensorProto.INT32, []),
        "cross_kv": _value("cross_kv", cache_type, [2 * config.decoder_layers, heads, "tokens", head_dim]),
    }
    names = tensor_names(config.decoder_layers)
    return [values[name] for name in names.encoder_inputs], [values[name] for name in names.encoder_outputs]


def decoder_signature(
    config: ModelConfig, cache_type: int, words: int
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    """The inputs and the outputs of the decoder graph, with their types and shapes. `words` is the padded V.

    `adjust_index` has row * V + token of each adjustment. `selected_rows` are rows whose candidates are given apart, as
    `selected_ids`. `masks` has a row for each of them, or one for all.
    """
    fixed: dict[str, tuple[int, list[str | int]]] = {
        "tokens": (TensorProto.INT64, ["rows", 1]),
        "positions": (TensorProto.INT32, ["rows"]),
        "total_length": (TensorProto.INT32, []),
        "source_lengths": (TensorProto.INT32, ["rows"]),
        "total_source_length": (TensorProto.INT32, []),
        "num_candidates": (TensorProto.INT64, [1]),
        "adjust_index": (TensorProto.INT64, ["adjustments"]),
        "adjust_penalty": (TensorProto.FLOAT, ["adjustments"]),
        "adjust_bias": (TensorProto.FLOAT, ["adjustments"]),
        "candidate_ids": (TensorProto.INT64, ["rows", "candidates"]),
        "candidate_log_probs": (TensorProto.FLOAT, ["rows", "candidates"]),
        "selected_rows": (TensorProto.INT64, ["selected"]),
        "masks": (TensorProto.FLOAT, ["masks", words]),
        "num_selected_candidates": (TensorProto.INT64, [1]),
        "selected_ids": (TensorProto.INT64, ["selected", "selected_candidates"]),
        "selected_log_probs": (TensorProto.FLOAT, ["selected", "selected_candidates"]),
        "aligned": (TensorProto.INT64, ["rows", 1]),
    }

    def value(name: str) -> onnx.ValueInfoProto:
        if name in fixed:
            return _value(name, *fixed[name])
        capacity = "source_capacity" if "cross" in name else "capacity"
        return _value(name, cache_type, ["rows", config.num_heads, capacity, config.head_dim])

    names = tensor_names(config.decoder_layers)
    return [value(name) for name in names.decoder_inputs], [value(name) for name in names.decoder_outputs]


def _value(name: str, kind: int, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))
