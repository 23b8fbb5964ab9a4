from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import ENCODER, WEIGHTS, tensor_names
from dragoman_service.errors import BundleError, InvalidInput
from dragoman_service.runtime.sessions import EncoderSession, Graphs, Placement, open_session


def test_there_must_be_a_thread() -> None:
    with pytest.raises(InvalidInput, match="threads: got 0; allowed: 1 or more"):
        Placement(0)


def test_the_encoder_gives_keys_and_values_of_every_decoder_layer(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest
    graphs = Graphs.open(tiny_bundle.path, manifest.tensors, Placement(1))
    assert EncoderSession(graphs.encoder, manifest.cache).run([(5, 6, 2), (7, 8, 2)]).shape == (2, 2, 2, 2, 3, 16)


def test_a_graph_with_other_tensors_is_refused(tiny_bundle: Bundle) -> None:
    names = dataclasses.replace(tensor_names(2), encoder_outputs=("memory",))
    with pytest.raises(BundleError, match=r"encoder\.onnx: outputs differ .* cross_kv, memory"):
        Graphs.open(tiny_bundle.path, names, Placement(1))


def test_what_is_no_graph_is_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"golden\.json"):
        open_session(tiny_bundle.path / "golden.json", Placement(1))


def test_weights_outside_of_the_folder_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    folder = shutil.copytree(tiny_bundle.path, tmp_path / "bundle")
    shutil.copy(folder / WEIGHTS, tmp_path / "elsewhere")
    for place in ("../elsewhere", str(tmp_path / "elsewhere")):
        graph = onnx.load(tiny_bundle.path / ENCODER, load_external_data=False)
        for tensor in graph.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = place
        (folder / ENCODER).write_bytes(graph.SerializeToString())
        with pytest.raises(BundleError, match=r"encoder\.onnx"):
            open_session(folder / ENCODER, Placement(1))
