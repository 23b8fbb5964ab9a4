"""Scales that graphs and reference share are compared with the activations, and weights with the checkpoint."""

from __future__ import annotations

import copy
import dataclasses
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

from dragoman_export import quantise, scales
from dragoman_export.calibration import Ranges
from dragoman_export.exporter import write_graphs
from dragoman_export.precision import Prepared, prepare
from dragoman_export.scales import scale_problems
from dragoman_export.stored import stored_problems
from dragoman_export.weights import Weights
from support import mutations
from support.tiny_checkpoint import random_model, random_sources

MODEL = random_model()
SOURCES = random_sources(MODEL, 20)
LENGTH = 20


def test_scales_of_the_ranges_fit() -> None:
    assert list(scale_problems(prepare(MODEL, "int8", SOURCES, LENGTH))) == []
    assert list(scale_problems(prepare(MODEL, "fp16", SOURCES, LENGTH))) == []


def test_nor_is_anything_wrong_if_only_some_sentences_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scales, "SENTENCES", 5)
    assert list(scale_problems(prepare(MODEL, "int8", SOURCES, LENGTH))) == []


@pytest.mark.parametrize("sentences", [5, 64])
@pytest.mark.parametrize("function", ["input_scale", "cache_scale"])
@pytest.mark.parametrize(("factor", "message"), [(0.7, "cuts off"), (2.5, "of 8 bits; allowed: ")])
def test_scales_that_are_wrong_in_graphs_and_reference_alike(
    monkeypatch: pytest.MonkeyPatch, sentences: int, function: str, factor: float, message: str
) -> None:
    monkeypatch.setattr(scales, "SENTENCES", sentences)
    right = getattr(quantise, function)
    monkeypatch.setattr(quantise, function, lambda *given: right(*given) * factor)
    assert any(message in problem for problem in scale_problems(prepare(MODEL, "int8", SOURCES, LENGTH)))


@pytest.mark.parametrize("sentences", [5, 64])
@pytest.mark.parametrize(
    ("function", "one", "other"),
    [
        ("cache_scale", ".key", ".value"),
        ("cache_scale", "decoder.0", "decoder.1"),
        ("cache_scale", ".self_attention", ".cross_attention"),
        ("input_scale", ".0.feed_forward", ".1.feed_forward"),
        ("input_scale", ".inner", ".outer"),
    ],
)
def test_scales_that_are_exchanged_in_graphs_and_reference_alike(
    monkeypatch: pytest.MonkeyPatch, sentences: int, function: str, one: str, other: str
) -> None:
    monkeypatch.setattr(scales, "SENTENCES", sentences)
    right = getattr(quantise, function)
    names = {one: other, other: one}

    def exchanged(ranges: Ranges, name: str, *activation: str) -> Tensor:
        other_name = re.sub("|".join(map(re.escape, names)), lambda it: names[it[0]], name)
        found: Tensor = right(ranges, other_name, *activation)
        return found

    monkeypatch.setattr(quantise, function, exchanged)
    assert any("cuts off" in problem for problem in scale_problems(prepare(MODEL, "int8", SOURCES, LENGTH)))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_what_is_stored_is_the_checkpoint(tmp_path: Path, norm: str, precision: str) -> None:
    model = random_model(seed=3, norm=norm, positions="sinusoidal")
    prepared = prepare(model, precision, SOURCES, LENGTH)
    write_graphs(model.config, prepared, tmp_path)
    assert list(stored_problems(tmp_path, prepared)) == []


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_one_number_of_the_weights_file_is_another(tmp_path: Path, precision: str) -> None:
    """By less than any translation would show."""
    prepared = prepare(MODEL, precision, SOURCES, LENGTH)
    write_graphs(MODEL.config, prepared, tmp_path)
    path = tmp_path / "weights.safetensors"
    data = bytearray(path.read_bytes())
    initializer = prepared.weights.initializer("x", ["encoder.1.feed_forward_residual.norm.weight"])
    start = next(int(entry.value) for entry in initializer.external_data if entry.key == "offset")
    data[start + (2 if precision == "int8" else 0)] ^= 1
    path.write_bytes(bytes(data))
    (problem,) = stored_problems(tmp_path, prepared)
    assert "encoder.1.feed_forward_residual.norm.weight is off by" in problem


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_what_is_stored_is_rounded_from_another_model(tmp_path: Path, precision: str) -> None:
    prepared = prepare(MODEL, precision, SOURCES, LENGTH)
    write_graphs(MODEL.config, prepared, tmp_path)
    other = random_model()
    other.load_state_dict(prepared.unrounded.state_dict())
    with torch.no_grad():
        other.encoder[0].feed_forward.outer.weight[3, 4] *= 1.5
    wrong: Prepared = dataclasses.replace(prepared, unrounded=other)
    (problem,) = stored_problems(tmp_path, wrong)
    assert problem.startswith("encoder.0.feed_forward.outer.weight is rounded by")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize("mistake", ["another checkpoint", "transposed", "exchanged"])
def test_what_is_stored_is_something_else(tmp_path: Path, precision: str, mistake: str) -> None:
    """Of the right size and in the right place, so that nobody who reads it would notice."""
    prepared = prepare(MODEL, precision, SOURCES, LENGTH)
    tensors = dict(prepared.weights.tensors)
    one, other = (f"encoder.{layer}.self_attention.output" for layer in (0, 1))
    if mistake == "another checkpoint":
        tensors = dict(prepare(random_model(seed=1), precision, SOURCES, LENGTH).weights.tensors)
    elif mistake == "transposed":
        tensors[f"{one}.weight"] = np.ascontiguousarray(tensors[f"{one}.weight"].T)
    else:
        tensors[f"{one}.bias"], tensors[f"{other}.bias"] = tensors[f"{other}.bias"], tensors[f"{one}.bias"]
    write_graphs(MODEL.config, dataclasses.replace(prepared, weights=Weights(tensors)), tmp_path)
    problems = list(stored_problems(tmp_path, prepared))
    assert any(f"weights.safetensors: {one}." in problem for problem in problems)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
@pytest.mark.parametrize(
    ("graph", "mutation", "message"),
    [
        (
            "encoder",
            mutations.exchanged("0.feed_forward.inner.bias", "1.feed_forward.inner.bias"),
            "is not read from its place",
        ),
        ("encoder", mutations.bytes_moved("1.feed_forward.outer.weight", 1), "is not read from its place"),
        ("decoder", mutations.rows_moved("positions.table", 1), "is not read from its place"),
        ("decoder", mutations.untied, "output.embedding.weight is not a tensor of weights.safetensors"),
    ],
    ids=["exchanged", "a byte off", "a row off", "untied"],
)
def test_a_graph_takes_a_tensor_from_a_wrong_place(
    tmp_path: Path, precision: str, graph: str, mutation: mutations.Mutation, message: str
) -> None:
    """Where all numbers are equal, so that none tells."""
    model = copy.deepcopy(MODEL)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)
    prepared = prepare(model, precision, SOURCES, LENGTH)
    write_graphs(model.config, prepared, tmp_path)
    assert list(stored_problems(tmp_path, prepared)) == []
    path = tmp_path / f"{graph}.onnx"
    mutated = onnx.load(path, load_external_data=False)
    mutation(mutated.graph)
    onnx.save(mutated, path)
    problems = list(stored_problems(tmp_path, prepared))
    assert problems
    assert all(problem.startswith(path.name) and message in problem for problem in problems)
