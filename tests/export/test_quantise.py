from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from torch import Tensor, nn

from dragoman_export.calibration import Ranges, calibrate
from dragoman_export.quantise import (
    cache_scale,
    dequantised,
    input_scale,
    matrices,
    matrix_name,
    quantised_model,
    quantised_rows,
    quantised_weights,
    rounded,
)
from dragoman_export.shelf import Shelf
from dragoman_export.weights import BLOCK, qkv
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from support.tiny_checkpoint import random_model, random_sources

MODEL = random_model()


@pytest.fixture(scope="module")
def ranges() -> Ranges:
    return calibrate(MODEL, random_sources(MODEL, 10), 20)


@pytest.fixture(scope="module")
def reference(ranges: Ranges) -> Transformer:
    return quantised_model(MODEL, ranges, Shelf())


def test_the_largest_number_of_a_row_is_63_whatever_its_sign() -> None:
    weight = torch.tensor([[0.5, -0.25, 0.1], [-3.0, 1.0, 0.0], [1e-3, -1e-3, 5e-4]])
    integers, scale = quantised_rows(weight)
    assert integers.tolist() == [[63, -31, 13], [-63, 21, 0], [63, -63, 32]]
    assert integers.dtype == torch.int8
    assert torch.equal(scale, torch.tensor([0.5, 3.0, 1e-3]) / 63)
    assert ((dequantised(integers, scale) - weight).abs() <= scale[:, None] * 0.5001).all()


def test_a_row_of_zeros_stays_one() -> None:
    integers, scale = quantised_rows(torch.tensor([[0.0, 0.0], [0.0, 2.0]]))
    assert integers.tolist() == [[0, 0], [0, 63]]
    assert (scale > 0).all()
    assert dequantised(integers, scale)[0].tolist() == [0.0, 0.0]


def test_halves_are_rounded_to_even() -> None:
    integers, _ = quantised_rows(torch.tensor([[63.0, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]]))
    assert integers.tolist() == [[63, 0, 2, 2, 0, -2, -2]]


@pytest.mark.parametrize(("zero", "least"), [(128, -128), (0, 0)])
def test_rounding_is_that_of_quantize_linear(zero: int, least: int) -> None:
    """Between, on, and beyond the integers, as ONNX's own reference has it."""
    scale = torch.tensor(0.25)
    x = torch.cat((torch.arange(-300, 300, 0.5) * scale, torch.randn(500) * 30, torch.tensor([1e6, -1e6])))
    node = helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["y"])
    vectors = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])]
    result = [helper.make_tensor_value_info("y", TensorProto.UINT8, [None])]
    constants = [
        helper.make_tensor("scale", TensorProto.FLOAT, [], [0.25]),
        helper.make_tensor("zero", TensorProto.UINT8, [], [zero]),
    ]
    graph = helper.make_model(
        helper.make_graph([node], "quantise", vectors, result, constants),
        opset_imports=[helper.make_opsetid("", 21)],
    )
    (integers,) = ReferenceEvaluator(graph).run(None, {"x": x.numpy()})
    expected = (integers.astype(np.float32) - zero) * 0.25
    np.testing.assert_array_equal(rounded(x, scale, least).numpy(), expected)


def test_scales_of_activations_and_caches() -> None:
    """255 steps behind a ReLU, and 127 to either side elsewhere; one for each channel of a cache."""
    channels = torch.tensor([1.0, 5.1, 0.0])
    ranges = Ranges({"x.outer": channels, "x.inner": channels, "dead": torch.zeros(3)}, {"x.key": channels})
    assert input_scale(ranges, "x.outer") == pytest.approx(5.1 / 255)
    assert input_scale(ranges, "x.inner") == pytest.approx(5.1 / 127)
    assert input_scale(ranges, "dead") > 0
    scale = cache_scale(ranges, "x.key")
    assert scale[:2].tolist() == pytest.approx([1 / 127, 5.1 / 127])
    assert scale[2] > 0


def integers_of(x: Tensor, scale: Tensor, least: int) -> np.ndarray:
    return np.clip(np.rint(x.numpy() / scale.numpy()), least, least + 255).astype(np.int64)


@pytest.mark.parametrize(
    "name",
    [
        "encoder.0.self_attention.query",
        "encoder.1.self_attention.key",
        "encoder.1.feed_forward.outer",
        "decoder.0.feed_forward.inner",
        "decoder.1.self_attention.value",
        "decoder.0.cross_attention.key",
    ],
)
def test_a_linear_of_the_reference_is_integer_arithmetic(ranges: Ranges, reference: Transformer, name: str) -> None:
    linear, emulated = dict(MODEL.named_modules())[name], dict(reference.named_modules())[name]
    assert isinstance(linear, nn.Linear)
    behind_relu = name.endswith("outer")
    # Half as large again as what was seen: some of it is cut off.
    x = torch.randn(50, linear.in_features) * ranges.inputs[name].amax() / 2
    scale = input_scale(ranges, name)
    given = integers_of(x, scale, 0 if behind_relu else -128)
    assert {given.min(), given.max()} == ({0, 255} if behind_relu else {-128, 127})
    weight, weight_scale = quantised_rows(linear.weight)
    sums = given @ weight.numpy().astype(np.int64).T
    expected = sums * (scale * weight_scale).detach().numpy() + linear.bias.detach().numpy()
    if name.startswith("decoder") and name.endswith(("key", "value")):  # these alone are cached
        kept = cache_scale(ranges, name).numpy()
        # A number near a half may fall to either side: one step of the cache.
        found = (emulated(x).detach().numpy() / kept).astype(np.float64)
        np.testing.assert_allclose(found, np.rint(found), atol=1e-3)
        off = np.abs(np.rint(found) - np.clip(np.rint(expected / kept), -128, 127))
        assert off.max() <= 1
        assert (off > 0).mean() < 0.01
    else:
        np.testing.assert_allclose(emulated(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_output_layer_of_the_reference_is_integer_arithmetic(ranges: Ranges, reference: Transformer) -> None:
    x = torch.randn(5, MODEL.config.d_model) * ranges.inputs["output"].amax() / 3
    scale = input_scale(ranges, "output")
    weight, weight_scale = quantised_rows(MODEL.embedding.weight)
    sums = integers_of(x, scale, -128) @ weight.numpy().astype(np.int64).T
    expected = sums * (scale * weight_scale).detach().numpy() + MODEL.output_bias.detach().numpy()
    np.testing.assert_allclose(reference.project_output(x).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_the_model_itself_is_left_as_it_was(ranges: Ranges) -> None:
    model = copy.deepcopy(MODEL)
    quantised_model(model, ranges, Shelf())
    quantised_weights(model, ranges)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in MODEL.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())
    assert "project_output" not in vars(model)


def test_stored_matrices_are_turned_and_joined(ranges: Ranges) -> None:
    tensors = quantised_weights(MODEL, ranges).tensors
    modules, d_model = dict(MODEL.named_modules()), MODEL.config.d_model
    parts = qkv("encoder.1.self_attention")
    name = matrix_name(parts)
    assert tensors[f"{name}.weight"].shape == (d_model, 3 * d_model)
    for index, part in enumerate(parts):
        columns = slice(index * d_model, (index + 1) * d_model)
        weight, scale = quantised_rows(modules[part].weight)
        np.testing.assert_array_equal(tensors[f"{name}.weight"][:, columns], weight.numpy().T)
        np.testing.assert_array_equal(tensors[f"{name}.weight_scale"][columns], scale.detach().numpy())
        np.testing.assert_array_equal(tensors[f"{name}.bias"][columns], modules[part].bias.detach().numpy())
    table = tensors["embedding.weight"]
    assert len(table) % BLOCK == 0
    assert not table[MODEL.config.vocab_size :].any()
    np.testing.assert_allclose(
        tensors["embedding.scale"][:, 0], tensors["output.weight_scale"] * d_model**0.5, rtol=1e-6
    )
    assert {tensors[f"{matrix_name(names)}.weight"].dtype.name for names in matrices(MODEL.config)} == {"int8"}


def test_every_linear_is_in_one_matrix_and_those_of_one_matrix_read_the_same(ranges: Ranges) -> None:
    grouped = [name for names in matrices(MODEL.config) for name in names]
    assert sorted(grouped) == sorted(n for n, module in MODEL.named_modules() if isinstance(module, nn.Linear))
    for first, *others in matrices(MODEL.config):
        assert all(torch.equal(ranges.inputs[first], ranges.inputs[other]) for other in others)


def test_every_tensor_of_an_int8_bundle_is_used_by_a_graph(tiny_int8_bundle: Bundle) -> None:
    used: set[int] = set()
    for name in ("encoder.onnx", "decoder.onnx"):
        graph = onnx.load(tiny_int8_bundle.path / name, load_external_data=False).graph
        read = {name for node in graph.node for name in node.input}
        for tensor in graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries and tensor.name in read:
                used |= set(range(int(entries["offset"]), int(entries["offset"]) + int(entries["length"])))
    data = (tiny_int8_bundle.path / "weights.safetensors").stat().st_size
    header = 8 + int.from_bytes((tiny_int8_bundle.path / "weights.safetensors").read_bytes()[:8], "little")
    bias = 4 * tiny_int8_bundle.manifest.vocab_size  # stands in the graph, with its mask
    assert len(used) == data - header - bias
