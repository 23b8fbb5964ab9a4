"""Mutations of the graphs of a bundle. Each makes a mistake in an encoder or decoder graph, in place."""

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
    """Return the initializer from the weights file with this name, or else the `place`-th whose name ends with it.

    Names are compared without the suffix that tells the shape (`_as_`).
    """
    found = {each.name.partition("_as_")[0]: each for each in graph.initializer if each.external_data}
    return found[ending] if ending in found else [each for name, each in found.items() if name.endswith(ending)][place]


def attribute(kind: str, name: str, value: object, place: int = 0) -> Mutation:
    """Set an attribute of a node."""

    def mutate(graph: onnx.GraphProto) -> None:
        node = nodes(graph, kind)[place]
        kept = [item for item in node.attribute if item.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, value)])

    return mutate


def source_attention(name: str, value: object, place: int = 0) -> Mutation:
    """Set an attribute of an attention of the encoder, whose operator depends on the precision."""

    def mutate(graph: onnx.GraphProto) -> None:
        kinds = {node.op_type for node in graph.node}
        (kind,) = kinds & {"GroupQueryAttention", "MultiHeadAttention"}
        attribute(kind, name, value, place)(graph)

    return mutate


def moved(ending: str, items: int, place: int = 0) -> Mutation:
    """Move the start of a tensor by `items` of its items."""

    def mutate(graph: onnx.GraphProto) -> None:
        item = tensor(graph, ending, place)
        offset = next(entry for entry in item.external_data if entry.key == "offset")
        offset.value = str(int(offset.value) + items * ITEM_BYTES[item.data_type])

    return mutate


def taken_from(ending: str, place: int, other: int) -> Mutation:
    """Replace a tensor by another one with the same ending."""

    def mutate(graph: onnx.GraphProto) -> None:
        one, source = tensor(graph, ending, place), tensor(graph, ending, other)
        entries = list(source.external_data)
        del one.external_data[:]
        one.external_data.extend(entries)

    return mutate


def constant(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Mutation:
    """Change a constant of the graph."""

    def mutate(graph: onnx.GraphProto) -> None:
        item = next(item for item in graph.initializer if item.name == name)
        value = numpy_helper.to_array(item)
        item.CopyFrom(numpy_helper.from_array(change(value.copy()).astype(value.dtype), name))

    return mutate


def renamed(kind: str, other: str, place: int = 0) -> Mutation:
    """Replace the operator of a node."""

    def mutate(graph: onnx.GraphProto) -> None:
        nodes(graph, kind)[place].op_type = other

    return mutate


def swapped(kind: str, one: int, other: int, place: int = 0, *, outputs: bool = False) -> Mutation:
    """Exchange two inputs, or outputs, of a node."""

    def mutate(graph: onnx.GraphProto) -> None:
        node = nodes(graph, kind)[place]
        names = node.output if outputs else node.input
        names[one], names[other] = names[other], names[one]

    return mutate


def instead(kind: str, place: int, index: int, name: str) -> Mutation:
    """Replace an input of a node."""

    def mutate(graph: onnx.GraphProto) -> None:
        nodes(graph, kind)[place].input[index] = name

    return mutate


def behind(name: str, kind: str, *inputs: str, **attributes: object) -> Mutation:
    """Insert a node after `name`: all nodes that read `name` read its output."""

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
    """Give every row the value of the next row."""

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
    """Exchange the layers of the keys and values of cross-attention."""
    for node in graph.node:
        for place, name in enumerate(node.output):
            if name == "cross_kv":
                node.output[place] = "in_order"
    graph.initializer.append(numpy_helper.from_array(np.array([2, 3, 0, 1]), "order"))
    graph.node.append(helper.make_node("Gather", ["in_order", "order"], ["cross_kv"], axis=0))


def fewer_source_words(graph: onnx.GraphProto) -> None:
    """Ignore the last token of sources of several tokens."""
    constant("one", lambda x: x + 1)(graph)
    (sub,) = nodes(graph, "Sub")
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.int32), "none_before"))
    behind(sub.output[0], "Max", "none_before")(graph)


def no_last_words(graph: onnx.GraphProto) -> None:
    """See one word less of every source of several words."""
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int32), "a_word"))
    computed("source_lengths", "Sub", 1, np.int32)(graph)
    for node in graph.node:
        node.output[:] = ["fewer" if name == "mutated" else name for name in node.output]
    graph.node.insert(1, helper.make_node("Max", ["fewer", "a_word"], ["mutated"]))


def given_cells(words: int) -> Mutation:
    """Put the token that is so many places further into each cell, but the last token into the last."""

    def mutate(graph: onnx.GraphProto) -> None:
        computed("cells", "Add", words, np.int64)(graph)
        for node in graph.node:
            node.output[:] = ["further" if name == "mutated" else name for name in node.output]
        for kind, inputs, output in (
            ("Size", ["source"], "tokens_of_all"),
            ("Sub", ["tokens_of_all", "other"], "last_token"),
            ("Min", ["further", "last_token"], "mutated"),
        ):
            place = 1 + max((i for i, node in enumerate(graph.node) if set(node.output) & set(inputs)), default=-1)
            graph.node.insert(place, helper.make_node(kind, inputs, [output]))

    return mutate


def no_penalty(graph: onnx.GraphProto) -> None:
    """Ignore the penalties."""
    where, (gather,) = nodes(graph, "Where")[-1], [item for item in graph.node if "adjust_index" in item.input][:1]
    where.input[1] = where.input[2] = gather.output[0]


def warmer(graph: onnx.GraphProto) -> None:
    """Multiply the logits by 0.99."""
    (softmax,) = nodes(graph, "LogSoftmax")
    graph.initializer.append(numpy_helper.from_array(np.array(0.99, np.float32), "temperature"))
    behind(softmax.input[0], "Mul", "temperature")(graph)


def not_normalised(graph: onnx.GraphProto) -> None:
    (softmax,) = nodes(graph, "LogSoftmax")
    softmax.op_type = "Identity"
    del softmax.attribute[:]


def no_adjustments(graph: onnx.GraphProto) -> None:
    """Ignore the adjustments of the step."""
    scatter = nodes(graph, "ScatterElements")[0]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == scatter.output[0]:
                node.input[place] = scatter.input[0]


def word_allowed(word: int) -> Mutation:
    def change(bias: np.ndarray) -> np.ndarray:
        bias[word] = 0
        return bias

    return constant("masked_output_bias", change)


def bytes_moved(ending: str, count: int, place: int = 0) -> Mutation:
    """Move the start of a tensor by `count` bytes, which is within a number unless numbers have 8 bits."""

    def mutate(graph: onnx.GraphProto) -> None:
        offset = next(entry for entry in tensor(graph, ending, place).external_data if entry.key == "offset")
        offset.value = str(int(offset.value) + count)

    return mutate


def rows_moved(ending: str, rows: int) -> Mutation:
    """Move the start of a tensor by `rows` of its rows."""

    def mutate(graph: onnx.GraphProto) -> None:
        moved(ending, rows * tensor(graph, ending).dims[-1])(graph)

    return mutate


def exchanged(one: str, other: str) -> Mutation:
    """Exchange two tensors of the same size."""

    def mutate(graph: onnx.GraphProto) -> None:
        left, right = tensor(graph, one), tensor(graph, other)
        for_left, for_right = list(right.external_data), list(left.external_data)
        for item, entries in ((left, for_left), (right, for_right)):
            del item.external_data[:]
            item.external_data.extend(entries)

    return mutate


def named_from(one: str, other: str) -> Mutation:
    """Replace a tensor by another one of the same size."""

    def mutate(graph: onnx.GraphProto) -> None:
        entries = list(tensor(graph, other).external_data)
        item = tensor(graph, one)
        del item.external_data[:]
        item.external_data.extend(entries)

    return mutate


def makers(graph: onnx.GraphProto, result: str) -> Iterator[tuple[int, NodeProto]]:
    """Yield the node that computes `result`, and the nodes that compute its inputs, with their indices; depth first."""
    place, node = next((i, node) for i, node in enumerate(graph.node) if result in node.output)
    yield place, node
    made = {name for node in graph.node for name in node.output}
    for name in node.input:
        if name in made:
            yield from makers(graph, name)


def maker(graph: onnx.GraphProto, result: str, *kinds: str) -> NodeProto:
    """The first node of these kinds in `makers`."""
    return next(node for _, node in makers(graph, result) if node.op_type in kinds)


PRODUCTS = ("Gemm", "FusedMatMul", "MatMulIntegerToFloat")


def transposed(result: str) -> Mutation:
    """Transpose a square matrix of weights."""

    def mutate(graph: onnx.GraphProto) -> None:
        node = maker(graph, result, *PRODUCTS)
        if node.op_type == "MatMulIntegerToFloat":
            place = list(graph.node).index(node)
            turned = helper.make_node("Transpose", [node.input[1]], ["turned"], perm=[1, 0])
            node.input[1] = "turned"
            graph.node.insert(place, turned)
        else:
            next(item for item in node.attribute if item.name == "transB").i = 0

    return mutate


def no_bias(result: str) -> Mutation:
    """Remove the bias of a linear map."""

    def mutate(graph: onnx.GraphProto) -> None:
        node = maker(graph, result, *PRODUCTS)
        if node.op_type == "FusedMatMul":
            add = maker(graph, result, "Add")
            add.op_type = "Identity"
            del add.input[1:]
        else:
            del node.input[-1]

    return mutate


def alone(result: str, index: int) -> Mutation:
    """Replace the node that computes `result` by one of its inputs."""

    def mutate(graph: onnx.GraphProto) -> None:
        _, node = next(makers(graph, result))
        kept = node.input[index]
        node.op_type, node.domain = "Identity", ""
        del node.input[:], node.attribute[:]
        node.input.append(kept)

    return mutate


def read_instead(result: str, index: int, name: str) -> Mutation:
    """Replace an input of the node that computes `result`."""

    def mutate(graph: onnx.GraphProto) -> None:
        _, node = next(makers(graph, result))
        node.input[index] = name

    return mutate


def every_reader(name: str, other: str) -> Mutation:
    """Let all nodes that read `name` read `other`."""

    def mutate(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for place, each in enumerate(node.input):
                if each == name:
                    node.input[place] = other

    return mutate


def computed(name: str, kind: str, value: object, dtype: type) -> Mutation:
    """Apply an operator with a constant to `name`, for all nodes that read it."""

    def mutate(graph: onnx.GraphProto) -> None:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), "other"))
        behind(name, kind, "other")(graph)

    return mutate


def given_out(name: str, kind: str, value: object, dtype: type) -> Mutation:
    """Apply an operator with a constant to an output of the graph."""

    def mutate(graph: onnx.GraphProto) -> None:
        for node in graph.node:
            for place, each in enumerate(node.output):
                if each == name:
                    node.output[place] = "given_out"
        graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), "other"))
        graph.node.append(helper.make_node(kind, ["given_out", "other"], [name]))

    return mutate


def read_instead_where(one: int, other: int) -> Mutation:
    """Treat logits of both signs alike: input `other` of the Where node replaces input `one`."""

    def mutate(graph: onnx.GraphProto) -> None:
        where = nodes(graph, "Where")[-1]
        where.input[one] = where.input[other]

    return mutate


def without_offset(graph: onnx.GraphProto) -> None:
    """Do not add the bias of adjustments, which includes bans."""
    add = next(node for node in graph.node if "adjust_bias" in node.input)
    add.op_type = "Identity"
    del add.input[1]


def last_input_twice(graph: onnx.GraphProto) -> None:
    """Replace the last but one input of an attention by the last: scales with int8, lengths otherwise."""
    node = nodes(graph, "GroupQueryAttention")[2]
    node.input[-2] = node.input[-1]


def position_of_embedding(graph: onnx.GraphProto) -> None:
    """Use the next position for the embedding, but not for the caches."""
    (gather,) = [node for node in graph.node if node.op_type == "Gather" and "positions" in node.input]
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.int32), "one_more"))
    graph.node.insert(0, helper.make_node("Add", ["positions", "one_more"], ["next_positions"]))
    gather.input[1] = "next_positions"


def untied(graph: onnx.GraphProto) -> None:
    """Give the output layer its own matrix, in which each token has the row of the next token."""
    own = TensorProto()
    own.CopyFrom(tensor(graph, "embedding.weight"))
    own.name = "output.embedding.weight"
    graph.initializer.append(own)
    rows_moved("output.embedding.weight", 1)(graph)
    (softmax,) = nodes(graph, "LogSoftmax")
    reader = next(node for _, node in makers(graph, softmax.input[0]) if "embedding.weight" in node.input)
    reader.input[list(reader.input).index("embedding.weight")] = own.name


def adjusted_afterwards(graph: onnx.GraphProto) -> None:
    """Adjust log-probabilities instead of logits."""
    (softmax,), (scatter,) = nodes(graph, "LogSoftmax"), nodes(graph, "ScatterElements")
    flatten = maker(graph, scatter.input[0], "Reshape")
    kept = NodeProto()
    kept.CopyFrom(softmax)
    graph.node.remove(softmax)
    every_reader(kept.output[0], kept.input[0])(graph)
    kept.input[0], kept.output[0] = flatten.input[0], "early"
    graph.node.insert(list(graph.node).index(flatten), kept)
    flatten.input[0] = "early"


def offset_first(graph: onnx.GraphProto) -> None:
    """Add the bias of adjustments before the penalty."""
    where = nodes(graph, "Where")[-1]
    add = next(node for node in graph.node if "adjust_bias" in node.input)
    (old,) = [node.output[0] for node in graph.node if "adjust_index" in node.input and node.op_type == "Gather"]
    every_reader(add.output[0], where.output[0])(graph)
    every_reader(old, add.output[0])(graph)
    kept = NodeProto()
    kept.CopyFrom(add)
    graph.node.remove(add)
    kept.input[0] = old
    first = min(place for place, node in enumerate(graph.node) if kept.output[0] in node.input)
    graph.node.insert(first, kept)


def qk_output(value: int) -> Mutation:
    """Change what an attention returns beside its result."""

    def mutate(graph: onnx.GraphProto) -> None:
        (node,) = [item for item in nodes(graph, "GroupQueryAttention") if len(item.output) == 4]
        next(item for item in node.attribute if item.name == "qk_output").i = value

    return mutate


def aligned_by_another_layer(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Gather" and node.input[0] == "cross_key_1":  # the scores are computed from the keys
            node.input[0] = "cross_key_0"
            return
    _, first, *_, last = nodes(graph, "GroupQueryAttention")
    first.output.append(last.output.pop())
    first.attribute.append(next(item for item in last.attribute if item.name == "qk_output"))
    last.attribute.remove(first.attribute[-1])


def masks_ignored(graph: onnx.GraphProto) -> None:
    add = next(node for node in graph.node if "masks" in node.input)
    add.op_type = "Identity"
    add.input.remove("masks")


def selected_before_adjustments(graph: onnx.GraphProto) -> None:
    """Select rows of log-probabilities that have no adjustments."""
    (scatter,) = nodes(graph, "ScatterElements")
    logits = maker(graph, scatter.input[0], "Reshape").input[0]
    gather = next(node for node in graph.node if "selected_rows" in node.input)
    place = list(graph.node).index(gather)
    graph.node.insert(place, helper.make_node("LogSoftmax", [logits], ["without"], axis=-1))
    gather.input[0] = "without"


def selected_logits(graph: onnx.GraphProto) -> None:
    gather = next(node for node in graph.node if "selected_rows" in node.input)
    gather.input[0] = nodes(graph, "LogSoftmax")[0].input[0]


ALL, FLOATS, INT8, FP16, BLOCKS = ("fp32", "fp16", "int8"), ("fp32", "fp16"), ("int8",), ("fp16",), ("fp32", "int8")

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
    "positions moved": (ALL, rows_moved("positions.table", 1)),
    "sharper attention": (ALL, source_attention("scale", 0.26)),
    "other heads": (ALL, source_attention("num_heads", 1)),
    "sees no later words": (FP16, attribute("MultiHeadAttention", "unidirectional", 1)),
    "sees no later words, by causality": (BLOCKS, attribute("GroupQueryAttention", "causal", 1)),
    "query for key": (FP16, swapped("Split", 0, 1, outputs=True)),
    "key for value": (FP16, swapped("Split", 1, 2, 1, outputs=True)),
    "heads that share keys": (BLOCKS, attribute("GroupQueryAttention", "kv_num_heads", 1)),
    "padding is seen": (ALL, behind("source_lengths", "Max", "total_source_length")),
    "last words are not seen": (ALL, no_last_words),
    "one word of padding is seen": (BLOCKS, constant("one", lambda x: x - 1)),
    "lengths of the next sentence": (ALL, rows_mixed("source_lengths")),
    "cells of the next sentence": (ALL, rows_mixed("cells")),
    "cells of the next word": (ALL, given_cells(1)),
    "the next word's place": (ALL, rows_mixed("places")),
    "the next word's position": (ALL, rows_mixed("source_positions")),
    "positions one further on": (ALL, computed("source_positions", "Add", 1, np.int64)),
    "no positions": (ALL, computed("source_positions", "Mul", 0, np.int64)),
    "every word the first of its sentence": (ALL, computed("places", "Mul", [1, 0], np.int64)),
    "every sentence the first": (ALL, computed("places", "Mul", [0, 1], np.int64)),
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
    "weight a byte off": (ALL, bytes_moved("encoder.1.feed_forward.outer.weight", 1)),
    "bias a byte off": (ALL, bytes_moved("encoder.1.feed_forward.outer.bias", 1)),
    "output bias as feed-forward bias": (ALL, named_from("0.self_attention.output.bias", "0.feed_forward.outer.bias")),
    "biases of a layer exchanged": (ALL, exchanged("0.self_attention.output.bias", "0.feed_forward.outer.bias")),
    "biases of layers exchanged": (ALL, exchanged("0.feed_forward.inner.bias", "1.feed_forward.inner.bias")),
    "key for value, by weights": (ALL, rows_moved("0.self_attention.value.weight", 3)),
    "keys' biases for queries'": (ALL, moved("0.self_attention.value.bias", 16)),
    "gain for bias": (ALL, exchanged("0.feed_forward_residual.norm.weight", "0.feed_forward_residual.norm.bias")),
    "gains of two norms": (
        ALL,
        exchanged("0.feed_forward_residual.norm.weight", "0.self_attention_residual.norm.weight"),
    ),
    "no bias of a norm": (ALL, lambda graph: nodes(graph, "LayerNormalization")[1].input.pop()),
    "no bias": (ALL, no_bias("encoder.0.feed_forward.result")),
    "square weights transposed": (ALL, transposed("encoder.1.self_attention.result")),
    "epsilon of other libraries": (ALL, attribute("LayerNormalization", "epsilon", 1e-6)),
    "no epsilon": (ALL, attribute("LayerNormalization", "epsilon", 0.0, 1)),
    "not scaled": (ALL, source_attention("scale", 1.0)),
    "more heads": (ALL, source_attention("num_heads", 8, 1)),
    "no residual": (ALL, alone("encoder.0.feed_forward_residual.sum", 1)),
    "no sub-layer": (ALL, alone("encoder.1.self_attention_residual.sum", 0)),
    "residual from further back": (
        ALL,
        read_instead("encoder.1.self_attention_residual.sum", 0, "encoder.0.self_attention_residual.sum"),
    ),
    "a norm of what another reads": (
        ALL,
        read_instead("encoder.1.feed_forward_residual.norm.output", 0, "encoder.0.feed_forward_residual.sum"),
    ),
    "no last norm": (ALL, every_reader("encoder_norm.output", "encoder.1.feed_forward_residual.sum")),
    "the next word": (ALL, rows_mixed("source")),
    "words of the next id": (ALL, rows_moved("embedding.weight", 1)),
    "keys before values": (ALL, given_out("cross_kv", "Gather", [0, 2, 1, 3], np.int64)),
    "heads behind positions": (ALL, attribute("Transpose", "perm", [1, 0, 2, 3], -1)),
    "keys and values a bit larger": (BLOCKS, computed("encoder_norm.output", "Mul", 1.01, np.float32)),
    "no embedding scale": (FLOATS, constant("embedding_scale", lambda x: x * 0 + 1)),
    "smooth ReLU": (FLOATS, renamed("Relu", "Gelu")),
    "scales of a layer exchanged": (
        INT8,
        exchanged("0.self_attention.output.weight_scale", "0.feed_forward.outer.weight_scale"),
    ),
    "input scales exchanged": (INT8, exchanged("0.feed_forward.inner.input_scale", "0.feed_forward.outer.input_scale")),
    "rounded by another scale than multiplied": (
        INT8,
        instead("QuantizeLinear", 2, 1, "encoder.1.feed_forward.outer.input_scale"),
    ),
    "zero of weights": (INT8, constant("encoder.0.feed_forward.inner.weight_zero", lambda x: x + 1)),
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
    "positions moved": (ALL, rows_moved("positions.table", -1)),
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
    "result subtracted": (ALL, renamed("Add", "Sub", -3)),
    "negated": (ALL, behind("decoder.1.feed_forward.result", "Neg")),
    "penalty inverted": (ALL, swapped("Where", 1, 2, -1)),
    "penalty of zero's other side": (ALL, renamed("Less", "Greater", -1)),
    "penalty always divides": (ALL, read_instead_where(1, 2)),
    "penalty ignored": (ALL, no_penalty),
    "offset subtracted": (ALL, renamed("Add", "Sub", -2)),
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
    "cache scales": (FLOATS, last_input_twice),
    "output bias as query bias": (ALL, named_from("0.cross_attention.query.bias", "0.cross_attention.output.bias")),
    "query and output biases exchanged": (
        ALL,
        exchanged("1.cross_attention.query.bias", "1.cross_attention.output.bias"),
    ),
    "query and output weights exchanged": (
        ALL,
        exchanged("1.cross_attention.query.weight", "1.cross_attention.output.weight"),
    ),
    "output weights of self- and cross-attention exchanged": (
        ALL,
        exchanged("1.self_attention.output.weight", "1.cross_attention.output.weight"),
    ),
    "weight a byte off": (ALL, bytes_moved("1.feed_forward.outer.weight", 1)),
    "bias a byte off": (ALL, bytes_moved("1.self_attention.output.bias", -1)),
    "gain a byte off": (ALL, bytes_moved("1.feed_forward_residual.norm.weight", 1)),
    "square weights transposed": (ALL, transposed("decoder.0.cross_attention.queries")),
    "no bias": (ALL, no_bias("decoder.1.self_attention.result")),
    "epsilon of other libraries": (ALL, attribute("LayerNormalization", "epsilon", 1e-6, 1)),
    "not scaled": (ALL, attribute("GroupQueryAttention", "scale", 1.0, 3)),
    "fewer heads": (ALL, attribute("GroupQueryAttention", "num_heads", 1, 1)),
    "no residual": (ALL, alone("decoder.1.cross_attention_residual.sum", 1)),
    "no last norm": (ALL, every_reader("decoder_norm.output", "decoder.1.feed_forward_residual.sum")),
    "position of the embedding": (ALL, position_of_embedding),
    "positions one further on": (ALL, computed("positions", "Add", 1, np.int32)),
    "past of another layer": (ALL, instead("GroupQueryAttention", 0, 3, "self_key_1")),
    "source of another layer": (ALL, instead("GroupQueryAttention", 3, 4, "cross_value_0")),
    "cross-attention over the past": (ALL, instead("GroupQueryAttention", 1, 3, "self_key_0")),
    "the next row's token": (ALL, rows_mixed("tokens")),
    "the next row's position": (ALL, rows_mixed("positions")),
    "the next row's source length": (ALL, rows_mixed("source_lengths")),
    "untied": (ALL, untied),
    "penalty squared": (ALL, behind("adjust_penalty", "Mul", "adjust_penalty")),
    "penalty never divides": (ALL, read_instead_where(2, 1)),
    "offset ignored": (ALL, without_offset),
    "offset twice": (ALL, behind("adjust_bias", "Add", "adjust_bias")),
    "offset penalised": (ALL, offset_first),
    "bans negated": (ALL, behind("adjust_bias", "Neg")),
    "bans that only discourage": (ALL, computed("adjust_bias", "Max", -30, np.float32)),
    "adjustments of the row before": (ALL, computed("adjust_index", "Sub", 384, np.int64)),
    "adjustments of the word before": (ALL, computed("adjust_index", "Sub", 1, np.int64)),
    "adjusted after the softmax": (ALL, adjusted_afterwards),
    "softmax": (ALL, renamed("LogSoftmax", "Softmax")),
    "one candidate more": (ALL, computed("num_candidates", "Add", [1], np.int64)),
    "the best candidate alone": (ALL, computed("num_candidates", "Min", [1], np.int64)),
    "ids one further on": (ALL, given_out("candidate_ids", "Add", 1, np.int64)),
    "begin allowed": (ALL, word_allowed(1)),
    "end for padding": (ALL, constant("masked_output_bias", lambda x: x[[2, 1, 0, *range(3, len(x))]])),
    "end never": (ALL, constant("masked_output_bias", lambda x: np.where(np.arange(len(x)) == 2, -np.inf, x))),
    "aligned by another head": (ALL, constant("aligned_head", lambda x: x + 1)),
    "aligned by another layer": (ALL, aligned_by_another_layer),
    "aligned with the least": (ALL, renamed("ArgMax", "ArgMin")),
    "aligned one further on": (ALL, given_out("aligned", "Add", 1, np.int64)),
    "aligned always with the first": (ALL, given_out("aligned", "Mul", 0, np.int64)),
    "aligned before the softmax": (BLOCKS, qk_output(1)),
    "aligned with padding": (FP16, renamed("Less", "LessOrEqual")),
    "aligned by the next row's query": (FP16, rows_mixed("decoder.1.cross_attention.queries")),
    "aligned by another part of the query": (FP16, constant("aligned_start", lambda x: x + 1)),
    "masks subtracted": (ALL, renamed("Add", "Sub", -1)),
    "masks ignored": (ALL, masks_ignored),
    "masks that only discourage": (ALL, computed("masks", "Max", -30, np.float32)),
    "the next row's mask": (ALL, rows_mixed("masks")),
    "the next selected row": (ALL, rows_mixed("selected_rows")),
    "always the first row selected": (ALL, computed("selected_rows", "Mul", 0, np.int64)),
    "one selected candidate more": (ALL, computed("num_selected_candidates", "Add", [1], np.int64)),
    "the best selected candidate alone": (ALL, computed("num_selected_candidates", "Min", [1], np.int64)),
    "least likely of selected": (ALL, attribute("TopK", "largest", 0)),
    "selected in no order": (ALL, attribute("TopK", "sorted", 0)),
    "selected ids one further on": (ALL, given_out("selected_ids", "Add", 1, np.int64)),
    "selected before the adjustments": (ALL, selected_before_adjustments),
    "selected of what is not normalised": (ALL, selected_logits),
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
    "cache scales of keys and values exchanged": (
        INT8,
        exchanged("1.self_attention.key.cache_scale", "1.self_attention.value.cache_scale"),
    ),
    "cache scales of keys twice": (INT8, last_input_twice),
    "cache scales of layers exchanged": (
        INT8,
        exchanged("0.cross_attention.key.cache_scale", "1.cross_attention.key.cache_scale"),
    ),
    "cache scales of self- and cross-attention exchanged": (
        INT8,
        exchanged("0.self_attention.value.cache_scale", "0.cross_attention.value.cache_scale"),
    ),
    "one scale for a cache": (INT8, attribute("GroupQueryAttention", "k_quant_type", "PER_TENSOR", 1)),
    "no embedding scale": (INT8, named_from("embedding.scale", "output.weight_scale")),
    "rounded by another scale than multiplied": (
        INT8,
        instead("QuantizeLinear", -1, 1, "decoder.1.feed_forward.inner.input_scale"),
    ),
    "zero of words": (INT8, constant("output.weight_zero", lambda x: x + 1)),
    "zero": (INT8, constant("zero_128", lambda x: x + 1)),
    "no ReLU": (INT8, constant("zero_0", lambda x: x + 128)),
}


def names() -> Iterator[tuple[str, str, str]]:
    """Yield graph, name and precision of all mutations."""
    for graph, mutations in (("encoder", ENCODER), ("decoder", DECODER)):
        for name, (precisions, _) in mutations.items():
            for precision in precisions:
                yield graph, name, precision
