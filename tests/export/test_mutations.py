"""No mistake in a graph passes the proof of an export, in any precision: see `support.mutations` for what is tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from dragoman_export import exporter
from dragoman_export.exporter import ExportOptions, export_checkpoint, write_graphs
from dragoman_export.parts import deviations
from dragoman_export.precision import Prepared, prepare
from dragoman_export.read_back import read_model
from dragoman_export.report import BOUNDS, VerificationError
from dragoman_model.checkpoint import CheckpointConfig, save_checkpoint
from dragoman_service.bundle import Bundle
from support import mutations
from support.parity import shipped_bundle
from support.tiny_checkpoint import MAX_POSITIONS, random_model, random_sources

LONGEST = (MAX_POSITIONS, MAX_POSITIONS - 1)
MUTATIONS = {"encoder": mutations.ENCODER, "decoder": mutations.DECODER}


@dataclass(frozen=True)
class Exported:
    """Graphs of a model of random weights, in a folder."""

    folder: Path
    prepared: Prepared

    def problems(self) -> list[str]:
        """Parts that are out of bounds, or what ONNX Runtime has against the graphs."""
        bounds = BOUNDS[self.prepared.precision]
        try:
            found = deviations(self.folder, self.prepared, longest=LONGEST)
        except Exception as error:
            return [str(error)]
        return [it.part for it in found if not it.error <= (bounds.step if it.in_steps else bounds.part)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    """By precision."""
    model = random_model()
    made: dict[str, Exported] = {}

    def export(precision: str) -> Exported:
        if precision not in made:
            folder = tmp_path_factory.mktemp(precision)
            prepared = prepare(model, precision, random_sources(model, 20), 40)
            write_graphs(model.config, prepared, folder)
            made[precision] = Exported(folder, prepared)
        return made[precision]

    return export


@pytest.mark.parametrize(("graph", "name", "precision"), list(mutations.names()))
def test_a_mistake_in_a_graph_is_found(
    exported: Callable[[str], Exported], graph: str, name: str, precision: str
) -> None:
    it = exported(precision)
    path = it.folder / f"{graph}.onnx"
    written = path.read_bytes()
    try:
        model = onnx.load(path, load_external_data=False)
        MUTATIONS[graph][name][1](model.graph)
        assert model.SerializeToString() != written
        onnx.save(model, path)
        assert it.problems() != []
    finally:
        path.write_bytes(written)


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


@pytest.fixture(scope="module")
def shipped_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The bundled model as a checkpoint."""
    bundle = Bundle.load(shipped_bundle())
    manifest = bundle.manifest
    model = read_model(bundle.path, manifest.architecture)
    limits = manifest.limits
    config = CheckpointConfig(
        model.config, manifest.language_pairs, limits.max_source_tokens, limits.max_target_tokens + 1, {}
    )
    folder = tmp_path_factory.mktemp("shipped") / "checkpoint"
    save_checkpoint(folder, model.state_dict(), config, (bundle.path / "tokenizer.model").read_bytes())
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("precision", mutations.ALL)
def test_the_bundled_model_passes_and_with_a_mistake_does_not(
    shipped_checkpoint: Path, tmp_path: Path, precision: str
) -> None:
    calibration = tmp_path / "calibration.txt"
    calibration.write_text("\n".join(sentence.source for sentence in Bundle.load(shipped_bundle()).golden))
    options = ExportOptions("shipped", "1", precision=precision, calibration=calibration)
    _, report = export_checkpoint(shipped_checkpoint, tmp_path / "shipped" / "1", options)
    part, step = report.largest(in_steps=False), report.largest(in_steps=True)
    print(precision, part, step, report.distance, report.busy, report.from_model, report.equalisation_error, sep="\n")
    assert report.from_model.agreement > 0.9
    passed = []
    for graph, name, of in mutations.names():
        if of == precision and name != "positions moved":  # by the width of a small model
            with pytest.MonkeyPatch.context() as monkeypatch:
                mutated(monkeypatch, graph, name)
                try:
                    export_checkpoint(shipped_checkpoint, tmp_path / "wrong" / "1", options)
                except VerificationError:
                    continue
                passed.append(f"{graph}: {name}")
    assert passed == []
