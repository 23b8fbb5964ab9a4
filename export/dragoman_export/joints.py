"""Joints: the named tensors between the parts of the network. A graph is cut at its joints to test each part alone.

A part is an operation that the paper names: an embedding, a layer norm, an addition to the residual stream, a linear
layer, an attention, the output layer. It begins and ends at joints, or at inputs and outputs of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper

from dragoman_model.config import ModelConfig

GIVEN = ".given"
"""Suffix of a joint's name: the input that replaces the joint in a cut graph."""
ENCODER, DECODER = "encoder", "decoder"
SUB_LAYERS = {
    ENCODER: ("self_attention", "feed_forward"),
    DECODER: ("self_attention", "cross_attention", "feed_forward"),
}
"""Stack -> sub-layers of one of its layers, in order."""


def attended(attention: str) -> str:
    """The joint at the output of an attention, [N, H K] in the encoder, [R, 1, H K] in the decoder.

    `attention` is the name of its module.
    """
    stack, layer, part = attention.split(".")
    return f"{part.removesuffix('_attention')}_attended_{layer}" if stack == DECODER else f"{attention}.attended"


class Stack:
    """The joints of the encoder or of the decoder, in the order of the data flow."""

    def __init__(self, config: ModelConfig, name: str) -> None:
        """`name` is `ENCODER` or `DECODER`."""
        layers = config.encoder_layers if name == ENCODER else config.decoder_layers
        self.name = name
        self.sub_layers = [f"{name}.{layer}.{part}" for layer in range(layers) for part in SUB_LAYERS[name]]
        """Names of the modules of the sub-layers."""
        norms = [f"{sub_layer}_residual.norm" for sub_layer in self.sub_layers]
        outputs = [f"{norm}.output" for norm in norms]
        sums = [f"{sub_layer}_residual.sum" for sub_layer in self.sub_layers]
        embedded = f"{name}.embedded"
        first = f"{name}_embedding_norm" if config.embedding_norm else ""
        start = f"{first}.output" if first else embedded
        pre = config.norm == "pre"
        inputs, reads, last = ([start, *sums[:-1]], outputs, sums[-1]) if pre else (
            sums, [start, *outputs[:-1]], outputs[-1]
        )  # fmt: skip
        final = f"{name}_norm" if config.ends_with_norm else ""
        self.norms = [*filter(None, [first]), *norms, *filter(None, [final])]
        """Names of the modules of the layer norms: one before each sub-layer with pre-norm, else one after each; and
        those of the embeddings and at the end, if the model has them."""
        self.normed = [*([embedded] if first else []), *inputs, *([last] if final else [])]
        """The input of each of `norms`."""
        self.read = [*reads, f"{final}.output" if final else last]
        """The input of each sub-layer, and last the output of the stack."""
        self.streams = [start, *sums] if pre else [start, *outputs]
        """The tensors to which the results of the sub-layers are added, and one more."""
        self.sums = sums
        """The sum after each sub-layer."""
        self.widths = dict.fromkeys([embedded, *sums, *(f"{norm}.output" for norm in self.norms)], config.d_model)
        """Joint -> size of its last axis."""
        self.active = {} if config.activation == "relu" else {
            f"{sub_layer}.active": sub_layer for sub_layer in self.sub_layers if sub_layer.endswith("feed_forward")
        }  # fmt: skip
        """Joint after an activation function -> the feed-forward network. ReLU has none: int8 graphs lack it."""
        self.attended = {
            attended(sub_layer): sub_layer for sub_layer in self.sub_layers if sub_layer.endswith("attention")
        }
        """Joint at the output of an attention -> the attention."""
        for sub_layer in self.sub_layers:
            self.widths[f"{sub_layer}.result"] = config.d_model
            if sub_layer.endswith("feed_forward"):
                self.widths[f"{sub_layer}.hidden"] = config.d_ff_of(name)
                continue
            self.widths[attended(sub_layer)] = config.attention_width
            if sub_layer.endswith("self_attention"):
                self.widths[f"{sub_layer}.packed"] = 3 * config.attention_width
            else:
                self.widths[f"{sub_layer}.queries"] = config.attention_width
        self.widths |= dict.fromkeys(self.active, config.d_ff_of(name))


def taken_apart(graph: onnx.ModelProto, joints: Iterable[str], kind: int) -> onnx.ModelProto:
    """A copy of a graph that is cut at every joint. The joint becomes an output, and its readers get a new input.

    Args:
        graph: The graph. Its weights may be in another file.
        joints: Names of tensors of the graph.
        kind: Their type, one of those of `onnx.TensorProto`.

    Raises:
        ValueError: the graph has no tensor with the name of a joint.
    """
    apart = onnx.ModelProto()
    apart.CopyFrom(graph)
    names = set(joints)
    made = {name for node in apart.graph.node for name in node.output}
    if missing := sorted(names - made):
        raise ValueError(f"no tensor {missing[0]} in the graph")
    for node in apart.graph.node:
        for place, name in enumerate(node.input):
            if name in names:
                node.input[place] = name + GIVEN
    for name in sorted(names):
        apart.graph.input.append(helper.make_tensor_value_info(name + GIVEN, kind, None))
        apart.graph.output.append(helper.make_tensor_value_info(name, kind, None))
    return apart
