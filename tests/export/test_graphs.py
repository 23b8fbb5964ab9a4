from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from safetensors.torch import load_file

from dragoman_export.fp32 import Fp32Builder
from dragoman_export.graphs import build_decoder, build_encoder
from dragoman_export.read_back import read_model
from dragoman_export.weights import BLOCK, collect_weights, cross_key_value, neighbours, qkv
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import tensor_names
from support.tiny_checkpoint import random_model


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("norm", ["post", "pre"])
def test_tensors_are_those_of_the_manifest(norm: str, layers: int) -> None:
    model = random_model(norm=norm, encoder_layers=layers, decoder_layers=layers)
    weights = collect_weights(model)
    names = tensor_names(layers)
    encoder, decoder = (build(Fp32Builder(model.config, weights)) for build in (build_encoder, build_decoder))
    assert tuple(value.name for value in encoder.graph.input) == names.encoder_inputs
    assert tuple(value.name for value in encoder.graph.output) == names.encoder_outputs
    assert tuple(value.name for value in decoder.graph.input) == names.decoder_inputs
    assert tuple(value.name for value in decoder.graph.output) == names.decoder_outputs


def test_the_same_model_gives_the_same_files() -> None:
    first, second = (collect_weights(random_model(seed=3)) for _ in range(2))
    config = random_model().config
    assert first.to_bytes() == second.to_bytes()
    for build in (build_encoder, build_decoder):
        one, other = (build(Fp32Builder(config, weights)).SerializeToString() for weights in (first, second))
        assert one == other


def test_every_parameter_is_stored_once_and_used_by_a_graph(tiny_bundle: Bundle) -> None:
    model = random_model()
    weights = collect_weights(model)
    assert set(weights.tensors) == set(model.state_dict())
    assert len(weights.to_bytes()) == (tiny_bundle.path / "weights.safetensors").stat().st_size
    used: set[tuple[int, int]] = set()
    for name in ("encoder.onnx", "decoder.onnx"):
        for tensor in onnx.load(tiny_bundle.path / name, load_external_data=False).graph.initializer:
            entries = {entry.key: entry.value for entry in tensor.external_data}
            if entries:
                used.add((int(entries["offset"]), int(entries["length"])))
    total = sum(tensor.nbytes for name, tensor in weights.tensors.items() if name != "output_bias")
    assert sum(length for _, length in used) == total  # the output bias stands in the graph, with its mask


def test_the_weights_file_is_ordinary_safetensors(tmp_path: Path) -> None:
    model = random_model(positions="sinusoidal")
    (tmp_path / "weights.safetensors").write_bytes(collect_weights(model).to_bytes())
    state = load_file(tmp_path / "weights.safetensors")
    assert torch.equal(state.pop("positions.table"), model.positions.table)
    assert set(state) == set(model.state_dict())
    table = state["embedding.weight"]
    assert table.size(0) % BLOCK == 0
    assert not table[model.config.vocab_size :].any()
    state["embedding.weight"] = table[: model.config.vocab_size]
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
def test_the_model_can_be_read_back(tmp_path: Path, positions: str) -> None:
    model = random_model(positions=positions)
    (tmp_path / "weights.safetensors").write_bytes(collect_weights(model).to_bytes())
    again = read_model(tmp_path, model.config.to_json())
    assert not again.training
    assert all(torch.equal(tensor, again.state_dict()[name]) for name, tensor in model.state_dict().items())


def test_weights_are_written_one_after_the_other(tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.float16):
        weights = collect_weights(random_model(), dtype)
        weights.write(tmp_path / "weights")
        assert (tmp_path / "weights").read_bytes() == weights.to_bytes()


def test_initializers_refer_to_their_bytes() -> None:
    model = random_model()
    weights = collect_weights(model)
    data = weights.to_bytes()
    parts = [f"{name}.weight" for name in qkv("encoder.1.self_attention")]
    entries = {entry.key: entry.value for entry in weights.initializer("qkv", parts).external_data}
    start, length = int(entries["offset"]), int(entries["length"])
    state = model.state_dict()
    assert data[start : start + length] == torch.cat([state[part] for part in parts]).numpy().tobytes()
    assert tuple(weights.initializer("qkv", parts).dims) == (96, 32)


def test_parameters_that_are_no_neighbours_make_no_matrix() -> None:
    model = random_model()
    weights = collect_weights(model)
    assert tuple(f"{name}.bias" for name in cross_key_value(model.config)) in neighbours(model.config)
    with pytest.raises(ValueError, match="no neighbours"):
        weights.initializer("wrong", ["encoder.0.self_attention.query.weight", "embedding.weight"])
