"""The tensors between the parts of the network, at which a graph can be taken apart to try each part by itself.

A part is what the paper has a name for: an embedding, a layer norm, an addition to the residual stream, a linear map,
an attention, the output layer. Each begins and ends at joints, or at inputs and outputs of the graph.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import helper

from dragoman_model.config import ModelConfig

GIVEN = ".given"
"""Behind the name of a joint: the input of a graph taken apart that stands for it."""
ENCODER, DECODER = "encoder", "decoder"
SUB_LAYERS = {
    ENCODER: ("self_attention", "feed_forward"),
    DECODER: ("self_attention", "cross_attention", "feed_forward"),
}
"""Of a layer of each stack, in order."""


def attended(attention: str) -> str:
    """The joint behind an attention, [N, T, D], by the name of its module."""
    stack, layer, part = attention.split(".")
    return f"{part.removesuffix('_attention')}_attended_{layer}" if stack == DECODER else f"{attention}.attended"


class Stack:
    """The joints of the encoder or of the decoder, in the order in which data passes them."""

    def __init__(self, config: ModelConfig, name: str) -> None:
        """`name` is `ENCODER` or `DECODER`."""
        layers = config.encoder_layers if name == ENCODER else config.decoder_layers
        self.name = name
        self.sub_layers = [f"{name}.{layer}.{part}" for layer in range(layers) for part in SUB_LAYERS[name]]
        """Names of the modules."""
        norms = [f"{sub_layer}_residual.norm" for sub_layer in self.sub_layers]
        sums = [f"{sub_layer}_residual.sum" for sub_layer in self.sub_layers]
        embedded = f"{name}.embedded"
        pre = config.norm == "pre"
        self.norms = [*norms, f"{name}_norm"] if pre else norms
        """Names of the modules: with pre-norm one before each sub-layer and one at the end, else one behind each."""
        self.normed = [embedded, *sums] if pre else sums
        """What each of `norms` reads."""
        outputs = [f"{norm}.output" for norm in self.norms]
        self.read = outputs if pre else [embedded, *outputs]
        """What each sub-layer reads, and at the end the output of the stack."""
        self.streams = [embedded, *sums] if pre else self.read
        """What the result of each sub-layer is added to, and one more."""
        self.sums = sums
        """The sum behind each sub-layer."""
        self.widths = dict.fromkeys([embedded, *sums, *outputs], config.d_model)
        """Of every joint, the size of its last axis."""
        self.attended = {
            attended(sub_layer): sub_layer for sub_layer in self.sub_layers if sub_layer.endswith("attention")
        }
        """Joint behind an attention -> the attention."""
        for sub_layer in self.sub_layers:
            self.widths[f"{sub_layer}.result"] = config.d_model
            if sub_layer.endswith("feed_forward"):
                self.widths[f"{sub_layer}.hidden"] = config.d_ff
                continue
            self.widths[attended(sub_layer)] = config.d_model
            if sub_layer.endswith("self_attention"):
                self.widths[f"{sub_layer}.packed"] = 3 * config.d_model
            else:
                self.widths[f"{sub_layer}.queries"] = config.d_model


def taken_apart(graph: onnx.ModelProto, joints: Iterable[str], kind: int) -> onnx.ModelProto:
    """A copy of a graph in which every joint is cut: an output where it was made, and an input where it was read.

    Args:
        graph: Its weights may be in another file.
        joints: Names of tensors of it.
        kind: Their type, one of `onnx.TensorProto`'s.

    Raises:
        ValueError: a joint is not there.
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
