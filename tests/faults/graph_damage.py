"""Edits to ONNX graphs that leave them readable, such as an exporter with a mistake in it might write, or an attacker.

Attributes of nodes and constants inside the graph are left alone: ONNX Runtime believes those, and some (heads by the
quintillion, a split into no parts) end the process, so that a bundle has to be trusted as a program is.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import onnx

SIZES = (0, -1, 1, 7, 2**31 - 1, 2**31, 2**62, -(2**63))
NUMBERS = ("0", "-1", "4", "252268", "9" * 18, "9" * 40, "", "x", str(2**63 - 1), str(2**64 - 4))
PLACES = (
    "", ".", "..", "/dev/zero", "/etc/passwd", "../../../../../../etc/passwd", "golden.json", "encoder.onnx", "nowhere",
    "*/_ORT_MEM_ADDR_/*", "a\0b",
)  # fmt: skip
OPERATORS = ("Loop", "If", "Scan", "Identity", "Reshape", "ConstantOfShape", "Expand", "Range", "Nothing")

Edit = Callable[[onnx.ModelProto, random.Random], None]


def edited(data: bytes, rng: random.Random) -> bytes:
    """A model with one to three edits."""
    model = onnx.load_from_string(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        rng.choice(_EDITS)(model, rng)
    written: bytes = model.SerializeToString()
    return written


def _resize(model: onnx.ModelProto, rng: random.Random) -> None:
    dims = rng.choice(model.graph.initializer).dims
    if dims and rng.random() < 0.7:
        dims[rng.randrange(len(dims))] = rng.choice(SIZES)
    else:
        dims.append(rng.choice(SIZES))


def _retype(model: onnx.ModelProto, rng: random.Random) -> None:
    rng.choice(model.graph.initializer).data_type = rng.randrange(25)


def _move_data(model: onnx.ModelProto, rng: random.Random) -> None:
    outside = [tensor for tensor in model.graph.initializer if tensor.external_data]
    entry = rng.choice(rng.choice(outside).external_data)
    entry.value = rng.choice(PLACES if entry.key == "location" else NUMBERS)


def _change_interface(model: onnx.ModelProto, rng: random.Random) -> None:
    kind = rng.choice([*model.graph.input, *model.graph.output]).type.tensor_type
    if rng.random() < 0.5:
        kind.elem_type = rng.randrange(25)
    elif kind.shape.dim:
        rng.choice(kind.shape.dim).dim_value = rng.choice(SIZES)
    else:
        kind.shape.dim.add().dim_value = rng.choice(SIZES)


def _rewire(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = model.graph.node
    inputs = rng.choice(nodes).input
    if inputs:
        names = [*(name for node in nodes for name in node.output), *(t.name for t in model.graph.initializer), ""]
        inputs[rng.randrange(len(inputs))] = rng.choice(names)


def _drop_inputs(model: onnx.ModelProto, rng: random.Random) -> None:
    inputs = rng.choice(model.graph.node).input
    del inputs[rng.randint(0, len(inputs)) :]


def _drop_node(model: onnx.ModelProto, rng: random.Random) -> None:
    model.graph.node.remove(rng.choice(model.graph.node))


def _double_node(model: onnx.ModelProto, rng: random.Random) -> None:
    model.graph.node.append(rng.choice(model.graph.node))


def _change_operator(model: onnx.ModelProto, rng: random.Random) -> None:
    nodes = model.graph.node
    rng.choice(nodes).op_type = rng.choice([*OPERATORS, *(node.op_type for node in nodes)])


def _change_version(model: onnx.ModelProto, rng: random.Random) -> None:
    if rng.random() < 0.5:
        model.ir_version = rng.choice(SIZES)
    else:
        rng.choice(model.opset_import).version = rng.choice((0, 1, 7, 13, 24, 2**31))


_EDITS: tuple[Edit, ...] = (
    _resize, _retype, _move_data, _move_data, _change_interface, _rewire, _drop_inputs, _drop_node, _double_node,
    _change_operator, _change_version,
)  # fmt: skip
