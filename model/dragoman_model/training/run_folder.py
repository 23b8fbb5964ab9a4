"""The folder of a training run: the paths of its files, and the choice of the checkpoints to keep."""

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
    """The folder of one run.

    It has recipe.json, metrics.jsonl, provenance.jsonl, `checkpoints/step-N/`, `averaged/` (the result), curves.png and
    `tensorboard/`.
    """

    def __init__(self, path: Path, recipe: Recipe) -> None:
        self.path, self._recipe = path, recipe
        self._metrics = path / METRICS

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's event files."""
        return self.path / "tensorboard"

    def create(self, provenance: Mapping[str, Any]) -> None:
        """Make the folder. Write the recipe at the first start, and append `provenance` at each start."""
        self.path.mkdir(parents=True, exist_ok=True)
        recipe = self.path / RECIPE
        if not recipe.exists():
            text = json.dumps(self._recipe.to_json(), indent=2, ensure_ascii=False) + "\n"
            recipe.write_text(text, encoding="utf-8")
        _append(self.path / PROVENANCE, provenance)

    def course(self) -> Settings | None:
        """The settings and text of the run so far, with the changes of all resumed starts (see `course`).

        None if the folder has no recipe or provenance.

        Raises:
            InvalidInput: a file cannot be read.
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
        """The checkpoint to resume from.

        Raises:
            InvalidInput: there is no checkpoint.
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
        """Write the checkpoint of a step. Then remove the checkpoints that are no longer needed.

        Kept are the newest checkpoint, those nearest to the best one so far, and the last measured ones, which may
        become neighbours of a better one.
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
        """The measured checkpoints nearest to the best one, itself included; the newest one if none was measured."""
        return self._around(best_step) or self._checkpoints()[-1:]

    def finish(self, parameters: dict[str, Tensor], config: CheckpointConfig, tokenizer_model: bytes) -> Path:
        """Write the result of the run and draw the curves. Returns the folder of the resulting checkpoint."""
        averaged = self.path / "averaged"
        save_checkpoint(averaged, parameters, config, tokenizer_model)
        draw_curves(self._metrics, self.path / "curves.png")
        return averaged

    def append_metrics(self, line: Mapping[str, float | str]) -> None:
        """Append the metrics of a step to the metrics file."""
        _append(self._metrics, line)

    def drop_metrics_after(self, step: int) -> None:
        """Remove the metrics of the steps after `step`, which a resumed run does again."""
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
        """The measured checkpoints nearest to the best step, oldest first; of two at the same distance, the later one.

        Before there is a best step (0): the last measured checkpoints.
        """
        measured, count = self._measured(), self._recipe.training.average_checkpoints
        if not best_step:
            return measured[-count:]
        return sorted(sorted(measured, key=lambda path: (abs(step_of(path) - best_step), -step_of(path)))[:count])

    def _measured(self) -> list[Path]:
        """The checkpoints of measured steps, oldest first.

        A checkpoint that was written because of a signal is left out: the average must not depend on interruptions.
        """
        steps = {int(line["step"]) for line in read_metrics(self._metrics)}
        return [folder for folder in self._checkpoints() if step_of(folder) in steps]


def step_of(checkpoint: Path) -> int:
    """The number of updates before a checkpoint was written, from the name of its folder."""
    return int(checkpoint.name.removeprefix("step-"))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; none if there is no file."""
    return json_lines(path) if path.exists() else []


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The values of a JSON Lines file. An incomplete last line is ignored: a full disk or a kill may have cut it."""
    *whole, _ = path.read_text(encoding="utf-8").split("\n")
    return [json.loads(line) for line in whole]


def _append(path: Path, line: Mapping[str, Any]) -> None:
    """Append a line, in place of an incomplete last line."""
    with path.open("a+b") as file:
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
        file.write(_as_line(line).encode())


def _as_line(values: Mapping[str, Any]) -> str:
    return json.dumps(dict(values), ensure_ascii=False) + "\n"
