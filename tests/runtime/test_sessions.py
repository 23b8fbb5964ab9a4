from __future__ import annotations

import dataclasses
import random
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
    encoder = EncoderSession(graphs.encoder, manifest.cache, manifest.tensors)
    found = encoder.run([(5, 6, 2), (7, 8, 9, 10, 2), (2,)])
    assert [values.shape for values in found] == [(2, 2, 2, length, 16) for length in (3, 5, 1)]


@pytest.mark.parametrize("threads", [1, 2])
def test_a_source_is_encoded_to_the_same_bits_beside_any_others(any_tiny_bundle: Bundle, threads: int) -> None:
    manifest = any_tiny_bundle.manifest
    graphs = Graphs.open(any_tiny_bundle.path, manifest.tensors, Placement(threads))
    encoder = EncoderSession(graphs.encoder, manifest.cache, manifest.tensors)
    rng = random.Random(threads)
    sources = [tuple(rng.choices(range(2, 300), k=length)) for length in range(1, 131)]
    alone = {source: encoder.run([source])[0].tobytes() for source in sources}
    for longest in (130, 130, 40, 40, 12, 12):
        for _ in range(10):
            crowd = rng.sample(sources[:longest], rng.randint(2, 10))
            assert [values.tobytes() for values in encoder.run(crowd)] == [alone[source] for source in crowd]


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
