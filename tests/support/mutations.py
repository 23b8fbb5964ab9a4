"""Mistakes that the graphs of a bundle could have: each changes an encoder or a decoder graph in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Mutation = Callable[[onnx.GraphProto], None]
ITEM_BYTES = {TensorProto.FLOAT: 4, TensorProto.FLOAT16: 2, TensorProto.INT8: 1}


def nodes(graph: onnx.GraphProto, kind: str) -> list[NodeProto]:
    found = [node for node in graph.node if node.op_type == kind]
    assert found, f"no {kind}"
    return found


def tensor(graph: onnx.GraphProto, ending: str, place: int = 0) -> TensorProto:
    """The `place`-th initializer whose name ends so, of those in the weights file."""
    return [it for it in graph.initializer if it.name.endswith(ending) and it.external_data][place]


def attribute(kind: str, name: str, value: object, place: int = 0) -> Mutation:
    """Another attribute of a node, or one that was not there."""

    def mutate(graph: onnx.GraphProto) -> None:
        node = nodes(graph, kind)[place]
        kept = [it for it in node.attribute if it.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return mutate


def moved(ending: str, items: int, place: int = 0) -> Mutation:
    """A tensor begins so many of its items further on, or back."""

    def mutate(graph: onnx.GraphProto) -> None:
        it = tensor(graph, ending, place)
        offset = next(entry for entry in it.external_data if entry.key == "offset")
        offset.value = str(int(offset.value) + items * ITEM_BYTES[it.data_type])

    return mutate


def taken_from(ending: str, place: int, other: int) -> Mutation:
    """A tensor is another one of its kind."""

    def mutate(graph: onnx.GraphProto) -> None:
        one, source = tensor(graph, ending, place), tensor(graph, ending, other)
        entries = list(source.external_data)
        del one.external_data[:]
        one.external_data.extend(entries)

    return mutate


def constant(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    """Another constant of the graph itself."""

    def mutate(graph: onnx.GraphProto) -> None:
        it = next(it for it in graph.initializer if it.name == name)
        value = numpy_helper.to_array(it)
        it.CopyFrom(numpy_helper.from_array(change(value.copy()).astype(value.dtype), name))

    return mutate


def renamed(kind: str, other: str, place: int = 0) -> Mutation:
    """Another operator."""

    def mutate(graph: onnx.GraphProto) -> None:
        nodes(graph, kind)[place].op_type = other

    return mutate


def swapped(kind: str, one: int, other: int, place: int = 0, *, outputs: bool = False) -> Mutation:
    """Two inputs, or outputs, of a node change places."""

    def mutate(graph: onnx.GraphProto) -> None:
        node = nodes(graph, kind)[place]
        names = node.output if outputs else node.input
        names[one], names[other] = names[other], names[one]

    return mutate


def instead(kind: str, place: int, index: int, name: str) -> Mutation:
    """A node reads something else."""

    def mutate(graph: onnx.GraphProto) -> None:
        nodes(graph, kind)[place].input[index] = name

    return mutate


def behind(name: str, kind: str, *inputs: str, **attributes: object) -> Mutation:
    """All who read `name` read what one more node makes of it."""

    def mutate(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for place, each in enumerate(node.input):
                if each == name:
                    node.input[place] = "mutated"
        made = [place for place, node in enumerate(graph.node) if name in node.output]
        graph.node.insert(
            made[0] + 1 if made else 0, helper.make_node(kind, [name, *inputs], ["mutated"], **attributes)
        )

    return mutate


def rows_mixed(name: str) -> Mutation:
    """Every row gets what is the next one's."""

    def mutate(graph: onnx.GraphProto) -> None:
        behind(name, "Identity")(graph)
        place = next(i for i, node in enumerate(graph.node) if "mutated" in node.output)
        graph.node[place].output[0] = "whole"
        for part, start, end in (("first", 0, 1), ("others", 1, 2**31)):
            for which, value in (("start", start), ("end", end), ("axis", 0)):
                graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), f"{part}_{which}"))
            inputs = ["whole", f"{part}_start", f"{part}_end", f"{part}_axis"]
            graph.node.insert(place + 1, helper.make_node("Slice", inputs, [part]))
        graph.node.insert(place + 3, helper.make_node("Concat", ["others", "first"], ["mutated"], axis=0))

    return mutate


def layers_exchanged(graph: onnx.GraphProto) -> None:
    """Keys and values of cross-attention, of the last layer first."""
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == "cross_kv":
                node.output[place] = "in_order"
    graph.initializer.append(numpy_helper.from_array(np.array([2, 3, 0, 1]), "order"))
    graph.node.append(helper.make_node("Gather", ["in_order", "order"], ["cross_kv"], axis=0))


def fewer_source_words(graph: onnx.GraphProto) -> None:
    """The last word of a source of several is not attended to."""
    constant("one", lambda x: x + 1)(graph)
    (sub,) = nodes(graph, "Sub")
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int32), "none_before"))
    behind(sub.output[0], "Max", "none_before")(graph)


def no_penalty(graph: onnx.GraphProto) -> None:
    """Penalties are computed, and not used."""
    (where,), (gather,) = nodes(graph, "Where"), [it for it in graph.node if "adjust_index" in it.input][:1]
    where.input[1] = where.input[2] = gather.output[0]


def always_divided(graph: onnx.GraphProto) -> None:
    """Penalties of negative logits, too."""
    (where,) = nodes(graph, "Where")
    where.input[1] = where.input[2]


def warmer(graph: onnx.GraphProto) -> None:
    """Logits are a hundredth smaller."""
    (softmax,) = nodes(graph, "LogSoftmax")
    graph.initializer.append(numpy_helper.from_array(np.array(0.99, np.float32), "temperature"))
    behind(softmax.input[0], "Mul", "temperature")(graph)


def not_normalised(graph: onnx.GraphProto) -> None:
    (softmax,) = nodes(graph, "LogSoftmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]


def no_adjustments(graph: onnx.GraphProto) -> None:
    """The step's adjustments are computed, and not used."""
    scatter = nodes(graph, "ScatterND")[0]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == scatter.output[0]:
                node.input[place] = scatter.input[0]


def word_allowed(word: int) -> Mutation:
    def change(bias: np.ndarray) -> np.ndarray:
        bias[word] = 0
        return bias

    return constant("masked_output_bias", change)


ALL, FLOATS, INT8, BLOCKS = ("fp32", "fp16", "int8"), ("fp32", "fp16"), ("int8",), ("fp32", "int8")

ENCODER: dict[str, tuple[tuple[str, ...], Mutation]] = {
    "epsilon": (ALL, attribute("LayerNormalization", "epsilon", 1e-3)),
    "epsilon a little": (ALL, attribute("LayerNormalization", "epsilon", 1.2e-5, 3)),
    "norm over another axis": (ALL, attribute("LayerNormalization", "axis", 0)),
    "gain of another layer": (ALL, taken_from("norm.weight", 2, 3)),
    "bias of another layer": (ALL, taken_from("norm.bias", 2, 3)),
    "output bias of another layer": (ALL, taken_from("attention.output.bias", 0, 1)),
    "weight of another layer": (ALL, taken_from("attention.output.weight", 0, 1)),
    "weight moved": (ALL, moved("feed_forward.outer.weight", 1)),
    "bias moved": (ALL, moved("feed_forward.inner.bias", 1, 1)),
    "positions moved": (ALL, moved("positions.table", 32)),
    "sharper attention": (ALL, attribute("MultiHeadAttention", "scale", 0.26)),
    "other heads": (ALL, attribute("MultiHeadAttention", "num_heads", 1)),
    "sees no later words": (ALL, attribute("MultiHeadAttention", "unidirectional", 1)),
    "query for key": (ALL, swapped("Split", 0, 1, outputs=True)),
    "key for value": (ALL, swapped("Split", 1, 2, 1, outputs=True)),
    "layers of cross-attention in another order": (ALL, layers_exchanged),
    "result subtracted": (ALL, renamed("Add", "Sub", -1)),
    "negated": (ALL, behind("encoder_norm.output", "Neg")),
    "embedding scale": (FLOATS, constant("embedding_scale", lambda x: x * 1.01)),
    "no ReLU": (FLOATS, renamed("Relu", "Abs", 1)),
    "nearly ReLU": (FLOATS, renamed("Relu", "LeakyRelu", 1)),
    "embedding scale of the next word": (INT8, moved("embedding.scale", 1)),
    "input scale of another matrix": (INT8, taken_from("input_scale", 1, 2)),
    "weight scales moved": (INT8, moved("weight_scale", 1, 2)),
    "cache scales moved": (INT8, moved(".value.weight_scale", 1)),
    "zero": (INT8, constant("zero_128", lambda x: x - 1)),
    "zero behind ReLU": (INT8, constant("zero_0", lambda x: x + 1)),
    "zero of the cache": (INT8, constant("cache_zero", lambda x: x + 1)),
    "unit of the cache": (INT8, constant("cache_unit", lambda x: x * 1.01)),
}
DECODER: dict[str, tuple[tuple[str, ...], Mutation]] = {
    "epsilon": (ALL, attribute("LayerNormalization", "epsilon", 1e-3, 2)),
    "epsilon of the last": (ALL, attribute("LayerNormalization", "epsilon", 1e-6, -1)),
    "gain of another layer": (ALL, taken_from("norm.weight", 4, 1)),
    "query bias of another layer": (ALL, taken_from("cross_attention.query.bias", 0, 1)),
    "bias moved": (ALL, moved("self_attention.output.bias", -1, 1)),
    "positions moved": (ALL, moved("positions.table_as_160x1x32", -32)),
    "no position before the own": (ALL, instead("GroupQueryAttention", 0, 5, "source_lengths")),
    "one source word too many": (ALL, constant("one", lambda x: x - 1)),
    "one source word too few": (ALL, fewer_source_words),
    "keys for values": (ALL, swapped("GroupQueryAttention", 3, 4, 1)),
    "keys for values, kept": (ALL, swapped("GroupQueryAttention", 1, 2, 2, outputs=True)),
    "a short window": (ALL, attribute("GroupQueryAttention", "local_window_size", 16)),
    "soft cap": (ALL, attribute("GroupQueryAttention", "softcap", 50.0, 1)),
    "sharper self-attention": (ALL, attribute("GroupQueryAttention", "scale", 0.26)),
    "sharper cross-attention": (ALL, attribute("GroupQueryAttention", "scale", 0.26, 1)),
    "smooth softmax": (ALL, attribute("GroupQueryAttention", "smooth_softmax", 1, 1)),
    "rotated": (ALL, attribute("GroupQueryAttention", "do_rotary", 1)),
    "the next row's past": (ALL, rows_mixed("self_value_1")),
    "the next row's source": (ALL, rows_mixed("cross_key_0")),
    "the next row's query": (ALL, rows_mixed("decoder.0.cross_attention.queries")),
    "the next row's state": (ALL, rows_mixed("decoder_norm.output")),
    "result subtracted": (ALL, renamed("Add", "Sub", -2)),
    "negated": (ALL, behind("decoder.1.feed_forward.result", "Neg")),
    "penalty inverted": (ALL, swapped("Where", 1, 2)),
    "penalty of zero's other side": (ALL, renamed("Less", "Greater")),
    "penalty always divides": (ALL, always_divided),
    "penalty ignored": (ALL, no_penalty),
    "offset subtracted": (ALL, renamed("Add", "Sub", -1)),
    "no adjustments": (ALL, no_adjustments),
    "warmer": (ALL, warmer),
    "normalised over rows": (ALL, attribute("LogSoftmax", "axis", 0)),
    "not normalised": (ALL, not_normalised),
    "least likely": (ALL, attribute("TopK", "largest", 0, -1)),
    "in no order": (ALL, attribute("TopK", "sorted", 0, -1)),
    "unknown allowed": (ALL, word_allowed(3)),
    "padding allowed": (ALL, word_allowed(0)),
    "a word behind the last": (ALL, word_allowed(-1)),
    "one logit off": (ALL, constant("masked_output_bias", lambda x: x + (np.arange(len(x)) == 77) * 0.1)),
    "fewer blocks": (BLOCKS, constant("num_blocks", lambda x: x - 1)),
    "words of the next block": (BLOCKS, constant("ids", lambda x: np.roll(x, 1, axis=0))),
    "embedding scale": (FLOATS, constant("embedding_scale", lambda x: x * 1.01)),
    "key scales for value scales": (INT8, swapped("GroupQueryAttention", -2, -1, 2)),
    "value scales for key scales": (
        INT8,
        instead("GroupQueryAttention", 1, -1, "decoder.0.cross_attention.key.cache_scale"),
    ),
    "cache scales of another layer": (INT8, taken_from("self_attention.key.cache_scale", 0, 1)),
    "cache scales moved": (INT8, moved("cross_attention.value.cache_scale", 1, 1)),
    "input scale": (INT8, taken_from("input_scale", 4, 5)),
    "output scales moved": (INT8, moved("output.weight_scale", 1)),
    "output scale": (INT8, taken_from("input_scale", -1, -2)),
}


def names() -> Iterator[tuple[str, str, str]]:
    """Graph, mutation and precision of all that there are."""
    for graph, mutations in (("encoder", ENCODER), ("decoder", DECODER)):
        for name, (precisions, _) in mutations.items():
            for precision in precisions:
                yield graph, name, precision
