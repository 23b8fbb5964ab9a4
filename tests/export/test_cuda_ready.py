"""Whether the graphs of fp16 bundles run on a GPU from end to end, as far as can be told without one."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from dragoman_service.bundle.bundle import Bundle
from support.foreign.imports import imported_bundle

FLOAT, HALF, INT32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT32

# What ONNX Runtime 1.31.1 was seen to place on a GPU, operators with types (`pytest -m slow tests/cuda_stand_in`). A
# node of anything else may run on the host, with copies around it: try it there before it is put down here.
KERNELS: dict[str, set[int]] = {
    "Add": {FLOAT, HALF},
    "ArgMax": {HALF},
    "Cast": {FLOAT, HALF},
    "Div": {FLOAT},
    "FusedMatMul": {HALF},
    "Gather": {FLOAT, HALF},
    "GatherND": {FLOAT, HALF},
    "Gelu": {HALF},
    "GroupQueryAttention": {HALF},
    "LayerNormalization": {HALF},
    "Less": {FLOAT, INT32},
    "LogSoftmax": {FLOAT},
    "Mul": {FLOAT, HALF},
    "MultiHeadAttention": {HALF},
    "QuickGelu": {HALF},
    "Relu": {HALF},
    "Reshape": {FLOAT, HALF},
    "ScatterElements": {FLOAT},
    "Slice": {HALF, INT32},
    "Split": {HALF},
    "Squeeze": {HALF},
    "Sub": {INT32},
    "TopK": {FLOAT},
    "Transpose": {HALF},
    "Unsqueeze": {INT32},
    "Where": {FLOAT, HALF},
}
ON_THE_HOST = {
    "Shape": (),  # its output is host memory, whatever its input
    "Slice": (1, 2, 3, 4),
    "Reshape": (1,),
    "Squeeze": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "GroupQueryAttention": (6,),
}
"""Inputs that the CUDA kernels want in host memory."""
IMPORTS = ("opus-mt-en-de", "marian-untied", "marian-pre-norm", "m2m", "mbart-50", "ct2-opennmt-float32")
"""Imports with every activation, place of a norm, two vocabularies, and heads that are padded and scaled."""


def typed(path: Path) -> tuple[onnx.GraphProto, dict[str, int]]:
    """A graph, and the element type of every tensor of ONNX's own operators and of the graph's edges."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False))
    graph = model.graph
    kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
    for value in (*graph.input, *graph.output, *graph.value_info):
        kinds[value.name] = value.type.tensor_type.elem_type
    for (
        node
    ) in graph.node:  # ONNX does not know the types of ONNX Runtime's operators: theirs is that of the first input
        if node.domain:
            kinds.setdefault(node.output[0], kinds.get(node.input[0], HALF))
    return graph, kinds


@pytest.fixture(scope="module", params=["tiny", *IMPORTS])
def folder(request: pytest.FixtureRequest, tiny_fp16_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle of our own model, then those of imports."""
    if request.param == "tiny":
        return tiny_fp16_bundle.path
    return imported_bundle(str(request.param), tmp_path_factory.mktemp("imported"), "fp16").path


@pytest.fixture(params=["encoder.onnx", "decoder.onnx"])
def path(request: pytest.FixtureRequest, folder: Path) -> Path:
    return folder / str(request.param)


def test_every_node_has_a_kernel_on_the_gpu(path: Path) -> None:
    graph, _ = typed(path)
    assert {node.op_type for node in graph.node} <= KERNELS.keys() | {"Shape"}


def test_every_node_computes_in_a_type_that_its_kernel_has(path: Path) -> None:
    graph, kinds = typed(path)
    odd = []
    for node in graph.node:
        kind = kinds.get(node.input[1 if node.op_type == "Where" else 0])
        if node.op_type != "Shape" and kind is not None and kind not in KERNELS[node.op_type]:
            odd.append(f"{node.name}: {TensorProto.DataType.Name(kind)}")
    assert odd == []


def test_nothing_that_is_computed_on_the_gpu_is_needed_on_the_host(path: Path) -> None:
    graph, _ = typed(path)
    on_the_gpu = {output for node in graph.node if node.op_type != "Shape" for output in node.output}
    wanted = {
        node.input[place]
        for node in graph.node
        for place in ON_THE_HOST.get(node.op_type, ())
        if place < len(node.input)
    }
    assert wanted & on_the_gpu == set()


def test_the_host_says_nothing_that_changes_from_step_to_step(folder: Path) -> None:
    """A captured step never reads it again."""
    graph, _ = typed(folder / "decoder.onnx")
    host = {
        node.input[place]
        for node in graph.node
        for place in ON_THE_HOST.get(node.op_type, ())
        if place < len(node.input)
    }
    inputs = {value.name for value in graph.input}
    counts = {"num_candidates", "num_selected_candidates"}
    assert host & inputs == {"total_length", "total_source_length"} | counts


def test_attention_may_take_the_kernel_for_single_queries(folder: Path) -> None:
    graph, _ = typed(folder / "decoder.onnx")
    attention = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    causal = [attribute.i for node in attention for attribute in node.attribute if attribute.name == "causal"]
    assert causal == [1] * len(attention) != []
