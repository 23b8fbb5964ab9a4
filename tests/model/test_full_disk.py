"""A run whose disk gets full: its checkpoints are intact, and with room it goes on as if nothing had happened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dragoman_model.checkpoint import load_checkpoint
from dragoman_model.data.prepare import prepare
from dragoman_model.training.run_folder import RunFolder, read_metrics
from dragoman_model.training.train import Trainer
from support.small_disk import fill, small_disk
from support.tiny_model import make_recipe, write_corpus

CPU = torch.device("cpu")


@pytest.mark.parametrize("moment", ["save", "append_metrics"])
def test_a_run_goes_on_once_there_is_room_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    write_corpus(tmp_path)
    recipe = make_recipe(training={"max_steps": 6, "validate_every": 2})
    data = prepare(recipe, tmp_path)
    whole = Trainer(recipe, data, tmp_path / "whole", CPU)
    whole.run()
    with small_disk(tmp_path / "disk", megabytes=4) as disk:
        genuine, calls = getattr(RunFolder, moment), list[str]()

        def filling(*arguments: object) -> None:
            calls.append(moment)
            if len(calls) == 2:
                fill(disk / "filler")
            genuine(*arguments)

        monkeypatch.setattr(RunFolder, moment, filling)
        broken = Trainer(recipe, data, disk / "run", CPU)
        with pytest.raises(OSError, match=r"No space left on device"):
            broken.run()
        monkeypatch.undo()
        assert [path.name for path in (disk / "run" / "checkpoints").iterdir()] == ["step-00000002"]
        load_checkpoint(disk / "run" / "checkpoints" / "step-00000002")
        (disk / "filler").unlink()
        with (disk / "run" / "metrics.jsonl").open("a") as file:
            file.write('{"step": 4, "ep')  # as of a process that is killed while it writes
        again = Trainer(recipe, data, disk / "run", CPU)
        again.resume()
        again.run()
        assert [line["step"] for line in read_metrics(disk / "run" / "metrics.jsonl")] == [2, 4, 6]
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(again.model.state_dict()[name], tensor), name
