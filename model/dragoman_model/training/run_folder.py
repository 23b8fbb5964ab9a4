"""The folder of a training run: which files lie where, and which checkpoints stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dragoman_model.checkpoint import CheckpointConfig, save_checkpoint
from dragoman_model.recipe import Recipe
from dragoman_model.training.course import Settings, course
from dragoman_model.training.curves import draw_curves
from dragoman_service.errors import InvalidInput

RECIPE, METRICS, PROVENANCE = "recipe.json", "metrics.jsonl", "provenance.jsonl"


class RunFolder:
    """Three files named above, `checkpoints/step-N/`, `averaged/` (the result), `curves.png`, `tensorboard/`."""

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self._recipe = path, recipe
        self._metrics = path / METRICS

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's event files go."""
        return self.path / "tensorboard"

    def create(self, provenance: Mapping[str, Any]) -> None:
        """Make the folder, and note in it the recipe of the beginning, and what each start of the run is made of."""
        self.path.mkdir(parents=True, exist_ok=True)
        recipe = self.path / RECIPE
        if not recipe.exists():
            text = json.dumps(self._recipe.to_json(), indent=2, ensure_ascii=False) + "\n"
            recipe.write_text(text, encoding="utf-8")
        _append(self.path / PROVENANCE, provenance)

    def course(self) -> Settings | None:
        """What has decided the course of the run so far, changes at a start included; None if it is not known.

        Raises:
            InvalidInput: the notes of the run cannot be read.
        """
        try:
            recipe = json.loads((self.path / RECIPE).read_text(encoding="utf-8"))
            starts = json_lines(self.path / PROVENANCE)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise InvalidInput("--resume", str(self.path), f"the folder of a run, whole ({error})") from error
        settings = course(Recipe.from_json(recipe), starts[0].get("data", {}) if starts else {})
        for start in starts:
            settings |= {field: after for field, (_, after) in start.get("changes", {}).items()}
        return settings

    def newest_checkpoint(self) -> Path:
        """The one to resume from.

        Raises:
            InvalidInput: there is none.
        """
        folders = self._checkpoints()
        if not folders:
            raise InvalidInput("--resume", str(self.path), "a run folder with a checkpoint")
        return folders[-1]

    def save(
        self,
        step: int,
        parameters: dict[str, Tensor],
        config: CheckpointConfig,
        tokenizer_model: bytes,
        training_state: tuple[dict[str, Tensor], dict[str, Any]],
    ) -> None:
        """Write the checkpoint of a step; only then remove what it makes superfluous.

        What stays: the newest, those around the best one so far, and the last measured ones, which may come to stand
        around a better one.
        """
        folder = self.path / "checkpoints" / f"step-{step:08d}"
        save_checkpoint(folder, parameters, config, tokenizer_model, training_state)
        best_step = int(training_state[1]["progress"]["best_step"])
        last = self._measured()[-self._recipe.training.average_checkpoints :]
        kept = {*last, *self._around(best_step)}
        for old in self._checkpoints()[:-1]:
            if old in kept:
                (old / "training.safetensors").unlink(missing_ok=True)
            else:
                shutil.rmtree(old)

    def to_average(self, best_step: int) -> list[Path]:
        """The measured checkpoints around the best one, which is among them; the newest if none was measured."""
        return self._around(best_step) or self._checkpoints()[-1:]

    def finish(self, parameters: dict[str, Tensor], config: CheckpointConfig, tokenizer_model: bytes) -> Path:
        """Write the result of the run, and draw the curves; returns the checkpoint."""
        averaged = self.path / "averaged"
        save_checkpoint(averaged, parameters, config, tokenizer_model)
        draw_curves(self._metrics, self.path / "curves.png")
        return averaged

    def append_metrics(self, line: Mapping[str, float | str]) -> None:
        """Note the measurements of a step."""
        _append(self._metrics, line)

    def drop_metrics_after(self, step: int) -> None:
        """Forget the measurements of steps that are about to be done again."""
        if self._metrics.exists():
            kept = [line for line in json_lines(self._metrics) if line["step"] <= step]
            partial = self._metrics.with_name(f".{METRICS}.partial")
            try:
                partial.write_text("".join(map(_as_line, kept)), encoding="utf-8")
                partial.replace(self._metrics)
            finally:
                partial.unlink(missing_ok=True)

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step-*"))

    def _around(self, best_step: int) -> list[Path]:
        """The measured checkpoints nearest to the best one, the later of two as near; the last before any is best."""
        measured, count = self._measured(), self._recipe.training.average_checkpoints
        if not best_step:
            return measured[-count:]
        return sorted(sorted(measured, key=lambda path: (abs(step_of(path) - best_step), -step_of(path)))[:count])

    def _measured(self) -> list[Path]:
        """Checkpoints but those of an interruption: the average must not depend on when that came."""
        steps = {int(line["step"]) for line in read_metrics(self._metrics)}
        return [folder for folder in self._checkpoints() if step_of(folder) in steps]


def step_of(checkpoint: Path) -> int:
    """The update after which a checkpoint was written."""
    return int(checkpoint.name.removeprefix("step-"))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The measurements of a run; none if there is no file."""
    return json_lines(path) if path.exists() else []


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of a run, but for half a line at the end: the disk was full, or the process was killed."""
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole]


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(_as_line(line).encode())


def _as_line(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), ensure_ascii=False) + "\n"
