"""What another program cannot express is refused with a message that names the switch, and nothing is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dragoman_export.elsewhere.write import write_elsewhere
from dragoman_export.exporter import ExportOptions
from dragoman_export.imports.imported import ImportOptions
from dragoman_export.imports.importer import import_checkpoint
from dragoman_export.imports.read import read_checkpoint
from dragoman_service.cli import main as cli
from dragoman_service.errors import InvalidInput
from support.elsewhere_models import SEVERAL, SWITCHES, checkpoint
from support.foreign.checkpoints import change_json


@pytest.mark.parametrize(
    ("to", "switches", "message"),
    [
        (
            "hf",
            {"norm": "post", "embedding_norm": True},
            "model.embedding_norm: got True; allowed: False with post-norm",
        ),
        ("hf", {"norm": "post", "final_norm": True}, "model.final_norm: got True; allowed: False, for MarianMTModel"),
        ("hf", {"final_norm": False}, "model.final_norm: got False; allowed: True, for Blenderbot"),
        ("hf", {"layer_norm_epsilon": 1e-6}, "model.layer_norm_epsilon: got 1e-06; allowed: 1e-05"),
        ("hf", {"embedding_scale": 2.0}, "model.embedding_scale: got 2.0; allowed: 1 or sqrt"),
        ("hf", {"source_embedding": "own"}, "model.source_embedding: got 'own'; allowed: shared, for Blenderbot"),
        ("hf", {"output_embedding": "own"}, "model.output_embedding: got 'own'; allowed: shared, for Blenderbot"),
        ("hf", {"head_size": 8}, "model.head_size: got 8; allowed: d_model / num_heads"),
        ("hf", {"attention_scale": 1.0}, "model.attention_scale: got 1.0; allowed: 1 / sqrt"),
        ("ctranslate2", {"head_size": 8}, "model.head_size: got 8; allowed: d_model / num_heads, for CTranslate2"),
        ("ctranslate2", {"attention_scale": 1.0}, "model.attention_scale: got 1.0"),
    ],
)
def test_a_switch_is_named(to: str, switches: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "checkpoint", switches)
    with pytest.raises(InvalidInput) as caught:
        write_elsewhere(path, to, tmp_path / "out")
    assert message in str(caught.value)
    assert [it.name for it in tmp_path.iterdir()] == ["checkpoint"]


def test_arguments_that_do_not_fit_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "checkpoint", {})
    output = tmp_path / "out"

    def error(*arguments: str) -> str:
        assert cli.main(["export", str(path), *arguments]) != 0
        return capsys.readouterr().err

    to = ("--output", str(output), "--to")
    assert "to: got 'onmt'; allowed: ctranslate2, hf" in error(*to, "onmt")
    assert "precision: got 'int8'; allowed: fp32, fp16, for --to hf" in error(*to, "hf", "--precision", "int8")
    assert "precision: got 'int4'" in error(*to, "ctranslate2", "--precision", "int4")
    assert "--golden: got" in error(*to, "hf", "--golden", "x")
    assert "--publish: got" in error("--publish", str(tmp_path), "--to", "hf")
    output.mkdir()
    assert "output: got" in error(*to, "hf")
    assert not list(output.iterdir())


def test_a_folder_is_replaced_on_demand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "checkpoint", {})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    arguments = ["export", str(path), "--to", "hf", "--output", str(tmp_path / "out"), "--force"]
    assert cli.main(arguments) == 1
    assert "a folder with config.json, or an empty one: --force replaces nothing else" in capsys.readouterr().err
    (tmp_path / "out" / "config.json").touch()
    assert cli.main(arguments) == 0
    assert "note: The class is Blenderbot" in capsys.readouterr().out
    assert (tmp_path / "out" / "model.safetensors").is_file()
    assert not (tmp_path / "out" / "old").exists()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_chatbot_is_no_translation_model(tmp_path: Path) -> None:
    write_elsewhere(checkpoint(tmp_path / "checkpoint", {}), "hf", tmp_path / "out")
    change_json(tmp_path / "out" / "tokenizer_config.json", tokenizer_class="BlenderbotTokenizer")
    with pytest.raises(InvalidInput, match="tokenizer_class: got 'BlenderbotTokenizer'; allowed: MarianTokenizer"):
        read_checkpoint(tmp_path / "out")


def test_a_target_without_a_tag_is_refused_on_the_way_back(tmp_path: Path) -> None:
    write_elsewhere(checkpoint(tmp_path / "checkpoint", {}, SEVERAL), "ctranslate2", tmp_path / "out")
    with pytest.raises(InvalidInput, match="targets: got 'it'; allowed: languages of the model: de, fr"):
        read_checkpoint(tmp_path / "out", ImportOptions(sources=("en",), targets=("de", "it")))


def test_a_bundle_of_an_imported_model_is_refused(tmp_path: Path) -> None:
    write_elsewhere(checkpoint(tmp_path / "checkpoint", SWITCHES["pre"]), "hf", tmp_path / "hf")
    import_checkpoint(tmp_path / "hf", tmp_path / "m" / "1", ExportOptions("m", "1"), ImportOptions())
    with pytest.raises(InvalidInput, match=r"tokenizer.kind: got 'marian \(blenderbot\)'; allowed: a model of"):
        write_elsewhere(tmp_path / "m" / "1", "hf", tmp_path / "out")


def test_what_is_no_model_of_ours_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a checkpoint folder"):
        write_elsewhere(tmp_path, "hf", tmp_path / "out")
