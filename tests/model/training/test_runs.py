from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import torch

from dragoman_model.data.prepare import prepare
from dragoman_model.data.provenance import fingerprint, git_state
from dragoman_model.training.runs import find_runs, table
from dragoman_model.training.train import Trainer
from dragoman_service.cli.main import main
from dragoman_service.errors import InvalidInput
from support.tiny_model import make_recipe, write_corpus


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: one has come to its end, the other was only begun."""
    folder = tmp_path_factory.mktemp("runs")
    write_corpus(folder)
    for name, tables in (("deep", {"model": {"encoder_layers": 3}}), ("begun", {})):
        recipe = make_recipe(**tables)
        trainer = Trainer(recipe, prepare(recipe, folder), folder / "en-de" / name, torch.device("cpu"))
        if name == "deep":
            trainer.run()
        else:
            trainer.folder.create(trainer.data.provenance)
    return folder


def test_a_run_is_a_line(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", str(runs)]) == 0
    header, rule, begun, deep = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.split("|")][1:4] == ["run", "model", "words"]
    assert set(rule) <= set("|-:")
    assert [cell.strip() for cell in begun.split("|")][1:7] == ["en-de/begun", "2+2x16", "320", "1.0", "0.1", "0"]
    cells = [cell.strip() for cell in deep.split("|")]
    assert cells[1:3] == ["en-de/deep", "3+2x16"]
    assert cells[6] == "12"
    assert float(cells[9]) > 0


def test_the_folder_of_a_run_says_what_it_was_made_of(runs: Path) -> None:
    (line,) = (runs / "en-de" / "deep" / "provenance.jsonl").read_text(encoding="utf-8").splitlines()
    made_of = json.loads(line)
    assert made_of["versions"]["torch"] == torch.__version__
    assert made_of["device"] == "cpu"
    assert made_of["data"] == {name: fingerprint(runs / name) for name in ("train.tsv", "valid.en", "valid.de")}


def test_code_is_a_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    for command in (
        ["init", "-q"],
        ["-c", "user.name=a", "-c", "user.email=a@example.com", "commit", "-q", "--allow-empty", "-m", "x"],
    ):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    state = git_state(tmp_path)
    assert state is not None
    assert len(state["commit"]) == 40
    assert state["changed"] is False
    (tmp_path / "file").write_text("a")
    subprocess.run(["git", "-C", str(tmp_path), "add", "file"], check=True)
    assert git_state(tmp_path) == state | {"changed": True}


def test_a_folder_without_runs_is_an_empty_table(tmp_path: Path) -> None:
    assert len(table(find_runs(tmp_path)).splitlines()) == 2


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "recipe.json").write_text("{")
    with pytest.raises(InvalidInput, match=r"bad'; allowed: the folder of a run, whole"):
        find_runs(tmp_path)
    with pytest.raises(InvalidInput, match="FOLDER"):
        find_runs(tmp_path / "nowhere")
