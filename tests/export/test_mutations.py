"""No mistake in a graph passes the proof of an export, in any precision: see `support.mutations` for what is tried."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from dragoman_export import exporter
from dragoman_export.exporter import ExportOptions, export_checkpoint, write_graphs
from dragoman_export.joints import DECODER, ENCODER
from dragoman_export.parts import deviations
from dragoman_export.precision import Prepared, prepare
from dragoman_export.read_back import read_model
from dragoman_export.report import BOUNDS, VerificationError
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from support import mutations
from support.parity import shipped_bundle
from support.tiny_checkpoint import MAX_POSITIONS, random_model, random_sources

LONGEST = (MAX_POSITIONS, MAX_POSITIONS - 1)
MUTATIONS = {ENCODER: mutations.ENCODER, DECODER: mutations.DECODER}


@dataclass(frozen=True)
class Exported:
    """Graphs of a model, in a folder."""

    folder: Path
    prepared: Prepared
    longest: tuple[int, int]

    def problem(self, *stacks: str) -> str:
        """The first part that is out of bounds, or what ONNX Runtime has against a graph; "" if there is nothing."""
        bounds = BOUNDS[self.prepared.precision]
        try:
            for it in deviations(self.folder, self.prepared, longest=self.longest, stacks=stacks):
                if not it.error <= (bounds.step if it.in_steps else bounds.part):
                    return it.part
        except Exception as error:
            return str(error)
        return ""

    def problem_with(self, stack: str, name: str) -> str:
        """Of the same graphs with a mistake."""
        path = self.folder / f"{stack}.onnx"
        written = path.read_bytes()
        try:
            model = onnx.load(path, load_external_data=False)
            MUTATIONS[stack][name][1](model.graph)
            if model.SerializeToString() == written:
                pytest.fail(f"{name} changes nothing")
            onnx.save(model, path)
            return self.problem(stack)
        finally:
            path.write_bytes(written)


def exported(
    model: Transformer, precision: str, sources: Sequence[Sequence[int]], folder: Path, longest: tuple[int, int]
) -> Exported:
    prepared = prepare(model, precision, sources, 40)
    write_graphs(model.config, prepared, folder)
    return Exported(folder, prepared, longest)


@pytest.fixture(scope="module")
def of_precision(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Exported]:
    """A model of random weights in every precision."""
    model = random_model()
    sources = random_sources(model, 20)
    return {it: exported(model, it, sources, tmp_path_factory.mktemp(it), LONGEST) for it in mutations.ALL}


@pytest.mark.parametrize(("graph", "name", "precision"), list(mutations.names()))
def test_a_mistake_in_a_graph_is_found(
    of_precision: dict[str, Exported], graph: str, name: str, precision: str
) -> None:
    assert of_precision[precision].problem_with(graph, name) != ""


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("positions", ["sinusoidal", "learned"])
@pytest.mark.parametrize("precision", mutations.ALL)
def test_graphs_without_a_mistake_pass_by_a_wide_margin(
    tmp_path: Path, norm: str, positions: str, precision: str
) -> None:
    model = random_model(seed=5, norm=norm, positions=positions, decoder_layers=3)
    prepared = prepare(model, precision, random_sources(model, 20), 40)
    write_graphs(model.config, prepared, tmp_path)
    bounds = BOUNDS[precision]
    for seed in range(2):
        for it in deviations(tmp_path, prepared, longest=LONGEST, seed=seed):
            assert it.error < (bounds.step if it.in_steps else bounds.part) / 3, it
    assert sorted(path.name for path in tmp_path.iterdir()) == ["decoder.onnx", "encoder.onnx", "weights.safetensors"]


END_TO_END = [
    ("decoder", "penalty inverted", "fp32"),
    ("decoder", "offset subtracted", "int8"),
    ("decoder", "epsilon", "int8"),
    ("decoder", "key scales for value scales", "int8"),
    ("decoder", "fewer blocks", "fp32"),
    ("encoder", "nearly ReLU", "fp16"),
]


def mutated(monkeypatch: pytest.MonkeyPatch, graph: str, name: str) -> None:
    """Let exports write a graph with a mistake."""
    build = getattr(exporter, f"build_{graph}")

    def build_wrongly(*args: object) -> onnx.ModelProto:
        model: onnx.ModelProto = build(*args)
        MUTATIONS[graph][name][1](model.graph)
        return model

    monkeypatch.setattr(exporter, f"build_{graph}", build_wrongly)


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "calibration.txt"
    path.write_text("The cat sees the dog.\nYes.\nA green house, and an old tree.\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(("graph", "name", "precision"), END_TO_END)
def test_a_mistake_leaves_no_bundle(
    tiny_checkpoint: Path, tmp_path: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch,
    graph: str, name: str, precision: str,
) -> None:  # fmt: skip
    mutated(monkeypatch, graph, name)
    options = ExportOptions("tiny", "1", precision=precision, sentences=calibration, calibration=calibration)
    with pytest.raises(VerificationError, match="the exported graphs disagree with the model: "):
        export_checkpoint(tiny_checkpoint, tmp_path / "tiny" / "1", options)
    assert not (tmp_path / "tiny").exists()


@pytest.mark.parametrize(
    ("kind", "message"), [("Gather", "cannot be opened"), ("LogSoftmax", "is no valid ONNX graph")]
)
def test_a_graph_that_cannot_be_opened_is_refused_likewise(
    tiny_checkpoint: Path, tmp_path: Path, calibration: Path, monkeypatch: pytest.MonkeyPatch, kind: str, message: str
) -> None:
    build = exporter.build_decoder

    def build_wrongly(*args: object) -> onnx.ModelProto:
        model = build(*args)
        node = mutations.nodes(model.graph, kind)[0]
        if kind == "Gather":
            mutations.attribute("Gather", "axis", 7)(model.graph)
        else:
            node.op_type = "NoSuchOperator"
        return model

    monkeypatch.setattr(exporter, "build_decoder", build_wrongly)
    with pytest.raises(VerificationError, match=message):
        export_checkpoint(tiny_checkpoint, tmp_path / "m" / "1", ExportOptions("m", "1", sentences=calibration))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", mutations.ALL)
def test_the_bundled_model_passes_and_with_a_mistake_does_not(tmp_path: Path, precision: str) -> None:
    bundle = Bundle.load(shipped_bundle())
    manifest = bundle.manifest
    model = read_model(bundle.path, manifest.architecture)
    sources = [sentence.source_ids for sentence in bundle.golden]
    longest = (manifest.limits.max_source_tokens, manifest.limits.max_target_tokens)
    it = exported(model, precision, sources, tmp_path, longest)
    assert it.problem(ENCODER, DECODER) == ""
    tried = [(graph, name) for graph, name, of in mutations.names() if of == precision]
    assert [(graph, name) for graph, name in tried if it.problem_with(graph, name) == ""] == []
