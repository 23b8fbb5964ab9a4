from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dragoman_model import checkpoint as checkpoint_module
from dragoman_model.checkpoint import (
    CheckpointConfig,
    average_parameters,
    load_checkpoint,
    load_training_state,
    save_checkpoint,
)
from dragoman_model.transformer import Transformer
from dragoman_service.errors import InvalidInput
from support.tiny import tokenizer_model
from support.tiny_model import make_model


def save(folder: Path, model: Transformer, **state: Any) -> None:
    config = CheckpointConfig(model.config, (("en", "de"),), 60, 61, {"step": 3})
    training_state = ({"rng.cpu": torch.get_rng_state()}, state) if state else None
    save_checkpoint(folder, model.state_dict(), config, tokenizer_model(), training_state)


def test_round_trip(tmp_path: Path) -> None:
    model = make_model()
    generator = torch.get_rng_state()
    save(tmp_path / "c", model, progress=5)
    loaded = load_checkpoint(tmp_path / "c")
    assert not loaded.model.training
    assert loaded.config.model == model.config
    assert (loaded.config.max_source_tokens, loaded.config.max_target_tokens) == (60, 61)
    assert loaded.tokenizer_model == tokenizer_model()
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor)
    parameters, tensors, state = load_training_state(tmp_path / "c")
    assert state == {"progress": 5}
    assert torch.equal(tensors["rng.cpu"], generator)
    assert parameters.keys() == model.state_dict().keys()
    assert [path.name for path in tmp_path.iterdir()] == ["c"], "nothing is left beside it"


def test_no_training_state_is_no_checkpoint_to_resume_from(tmp_path: Path) -> None:
    save(tmp_path / "c", make_model())
    with pytest.raises(InvalidInput, match="resume"):
        load_training_state(tmp_path / "c")


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.model"])
@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_missing_and_cut_files_are_named(tmp_path: Path, name: str, damage: str) -> None:
    save(tmp_path / "c", make_model())
    path = tmp_path / "c" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InvalidInput, match="checkpoint"):
        load_checkpoint(tmp_path / "c")


def test_parameters_that_do_not_fit(tmp_path: Path) -> None:
    save(tmp_path / "c", make_model())
    path = tmp_path / "c" / "model.safetensors"
    whole = load_file(path)
    for wrong in (
        {**whole, "output_bias": torch.zeros(41)},
        {name: tensor for name, tensor in whole.items() if name != "output_bias"},
        {**whole, "stranger": torch.zeros(1)},
    ):
        save_file(wrong, path)
        with pytest.raises(InvalidInput, match=r"output_bias|stranger"):
            load_checkpoint(tmp_path / "c")


def test_config_that_does_not_fit(tmp_path: Path) -> None:
    save(tmp_path / "c", make_model())
    path = tmp_path / "c" / "config.json"
    whole = json.loads(path.read_text(encoding="utf-8"))
    for wrong in (
        {**whole, "colour": "red"},
        {name: value for name, value in whole.items() if name != "model"},
        {**whole, "model": {**whole["model"], "norm": "none"}},
        [],
    ):
        path.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(InvalidInput, match=r"colour|model|norm|mapping"):
            load_checkpoint(tmp_path / "c")


@pytest.mark.parametrize("function", ["_write_json", "_save_tensors", "_sync"])
def test_a_write_that_fails_leaves_the_old_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    save(tmp_path / "c", make_model(seed=1), progress=1)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, function, fail)
        with pytest.raises(OSError, match="No space"):
            save(tmp_path / "c", make_model(seed=2), progress=2)
    assert load_training_state(tmp_path / "c")[2] == {"progress": 1}
    assert torch.equal(load_checkpoint(tmp_path / "c").model.output_bias, make_model(seed=1).output_bias)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_replacement_that_fails_halfway_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "c", make_model(seed=1), progress=1)
    rename = Path.rename

    def fail_for_the_new_one(path: Path, target: Path) -> Path:
        if path.name.endswith(".partial"):
            raise OSError(5, "Input/output error")
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail_for_the_new_one)
        with pytest.raises(OSError, match="Input/output"):
            save(tmp_path / "c", make_model(seed=2), progress=2)
    assert load_training_state(tmp_path / "c")[2] == {"progress": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_a_checkpoint_replaces_an_older_one(tmp_path: Path) -> None:
    for seed in (1, 2):
        save(tmp_path / "c", make_model(seed=seed), progress=seed)
    assert load_training_state(tmp_path / "c")[2] == {"progress": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_average(tmp_path: Path) -> None:
    models = [make_model(seed=seed) for seed in range(3)]
    for number, model in enumerate(models):
        save(tmp_path / str(number), model)
    averaged = average_parameters([tmp_path / str(number) for number in range(3)])
    for name, tensor in averaged.items():
        expected = torch.stack([model.state_dict()[name] for model in models]).mean(dim=0)
        assert tensor.dtype is torch.float32
        torch.testing.assert_close(tensor, expected)
    with pytest.raises(InvalidInput, match="average"):
        average_parameters([tmp_path / "none"])
