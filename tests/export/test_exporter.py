from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from dragoman_export import exporter
from dragoman_export.exporter import ExportOptions, export_checkpoint
from dragoman_export.verify import VerificationError
from dragoman_model.checkpoint import CheckpointConfig, save_checkpoint
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.cli import main as cli
from dragoman_service.errors import InvalidInput
from support.tiny_checkpoint import MAX_POSITIONS, random_model, write_checkpoint

OPTIONS = ExportOptions(name="tiny", version="1")
Mutation = Callable[[onnx.ModelProto], None]


@pytest.fixture
def few_sentences(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text("The cat sees the dog.\n\n  \nYes.\nA green house.\n", encoding="utf-8")
    return path


def test_what_the_manifest_says(tiny_bundle: Bundle) -> None:
    manifest = tiny_bundle.manifest
    assert (manifest.name, manifest.version, manifest.precision) == ("tiny", "1", "fp32")
    assert manifest.languages.pairs == (("en", "de"),)
    assert manifest.limits.max_source_tokens == MAX_POSITIONS
    assert manifest.limits.max_target_tokens == MAX_POSITIONS - 1
    assert manifest.limits.max_candidates == manifest.vocab_size - 3
    assert manifest.architecture == random_model().config.to_json()
    assert manifest.training["step"] == 0
    assert (tiny_bundle.path / "MODEL_CARD.md").read_text().startswith("# tiny 1\n")


def without_scale(graph: onnx.ModelProto) -> None:
    scale = next(tensor for tensor in graph.graph.initializer if tensor.name == "embedding_scale")
    scale.raw_data = b"\x00\x00\x80\x3f"


def without_relu(graph: onnx.ModelProto) -> None:
    next(node for node in graph.graph.node if node.op_type == "Relu").op_type = "Abs"


def other_weight(graph: onnx.ModelProto) -> None:
    """One byte further: a parameter that is subtly another."""
    tensor = next(tensor for tensor in graph.graph.initializer if tensor.name.endswith("feed_forward.outer.weight"))
    offset = next(entry for entry in tensor.external_data if entry.key == "offset")
    offset.value = str(int(offset.value) + 4)


def without_mask(graph: onnx.ModelProto) -> None:
    bias = next(tensor for tensor in graph.graph.initializer if tensor.name == "masked_output_bias")
    bias.raw_data = bytes(len(bias.raw_data))


@pytest.mark.parametrize(
    ("builder", "mutate"),
    [
        ("build_encoder", without_scale),
        ("build_decoder", without_scale),
        ("build_encoder", without_relu),
        ("build_decoder", without_relu),
        ("build_encoder", other_weight),
        ("build_decoder", other_weight),
        ("build_decoder", without_mask),
    ],
)
def test_a_graph_that_disagrees_leaves_no_bundle(
    tiny_checkpoint: Path,
    tmp_path: Path,
    few_sentences: Path,
    monkeypatch: pytest.MonkeyPatch,
    builder: str,
    mutate: Mutation,
) -> None:
    build = getattr(exporter, builder)

    def build_wrongly(*args: object) -> onnx.ModelProto:
        graph: onnx.ModelProto = build(*args)
        mutate(graph)
        return graph

    monkeypatch.setattr(exporter, builder, build_wrongly)
    options = dataclasses.replace(OPTIONS, sentences=few_sentences)
    with pytest.raises(VerificationError, match=r"log-probabilities differ by .*; allowed: 0.001"):
        export_checkpoint(tiny_checkpoint, tmp_path / "tiny" / "1", options)
    assert not (tmp_path / "tiny").exists()


def test_a_precision_that_is_not_there(tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="precision: got 'fp64'; allowed: fp32, fp16, int8"):
        export_checkpoint(tiny_checkpoint, tmp_path / "1", ExportOptions("tiny", "1", precision="fp64"))


def test_a_tokenizer_of_another_size_is_refused(tmp_path: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint")
    small = ModelConfig(vocab_size=100, d_model=16, num_heads=2, d_ff=16, encoder_layers=1, decoder_layers=1)
    config = CheckpointConfig(small, (("en", "de"),), 64, 64, {})
    save_checkpoint(checkpoint, Transformer(small).state_dict(), config, (checkpoint / "tokenizer.model").read_bytes())
    with pytest.raises(InvalidInput, match="the model's vocabulary size, 100"):
        export_checkpoint(checkpoint, tmp_path / "1", OPTIONS)


def test_a_model_of_short_sentences(tmp_path: Path, few_sentences: Path) -> None:
    checkpoint = write_checkpoint(tmp_path / "checkpoint", max_tokens=8)
    options = ExportOptions("tiny", "1", sentences=few_sentences)
    bundle, report = export_checkpoint(checkpoint, tmp_path / "tiny" / "1", options)
    assert bundle.manifest.limits.max_target_tokens == 7
    assert report.sentences < 11  # the longest does not fit


def run_command(*args: object) -> int:
    return cli.main(["export", *map(str, args)])


def test_the_command_writes_a_bundle(
    tiny_checkpoint: Path, tmp_path: Path, few_sentences: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = tmp_path / "scores.json"
    scores.write_text('[{"test_set": "tatoeba", "metric": "BLEU", "value": 30, "signature": "nrefs:1"}]')
    notes = tmp_path / "notes.md"
    notes.write_text("## Data\n\nAll my own.\n")
    output = tmp_path / "my-model" / "2"
    arguments = (tiny_checkpoint, "--output", output, "--sentences", few_sentences, "--description", "For tests.")
    assert run_command(*arguments, "--scores", scores, "--notes", notes) == 0
    bundle = Bundle.load(output)
    assert (bundle.manifest.name, bundle.manifest.version) == ("my-model", "2")
    assert bundle.manifest.description == "For tests."
    assert bundle.manifest.scores[0].value == 30
    card = (output / "MODEL_CARD.md").read_text()
    assert "# my-model 2" in card
    assert "| tatoeba | BLEU | 30 | `nrefs:1` |" in card
    assert "## Data\n\nAll my own.\n" in card
    assert {sentence.source for sentence in bundle.golden} <= {"The cat sees the dog.", "Yes.", "A green house."}
    assert "11 sentences translated as PyTorch does" in capsys.readouterr().out  # 3 of the file, 8 at random
    assert run_command(*arguments) == 1
    assert "--force" in capsys.readouterr().err
    assert run_command(*arguments, "--force", "--version", "3") == 0
    assert Bundle.load(output).manifest.version == "3"


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("--sentences", "\n \n", "at least one sentence"),
        ("--scores", "{}", "a JSON list of scores"),
        ("--scores", "[{", "a JSON list of scores"),
        ("--scores", '[{"metric": "BLEU"}]', r"scores[0].test_set: missing"),
        ("--notes", None, "a readable UTF-8 file"),
    ],
)
def test_wrong_files_are_named(
    tiny_checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    option: str,
    content: str | None,
    message: str,
) -> None:
    path = tmp_path / "given"
    if content is not None:
        path.write_text(content)
    assert run_command(tiny_checkpoint, "--output", tmp_path / "m" / "1", option, path) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_no_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(tmp_path / "nowhere", "--output", tmp_path / "m" / "1") == 1
    assert "a checkpoint folder" in capsys.readouterr().err
