"""The folder of a training run: which files lie where, and which checkpoints stay."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dragoman_model.checkpoint import CheckpointConfig, average_parameters, save_checkpoint
from dragoman_model.curves import draw_curves
from dragoman_model.recipe import Recipe
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
        """Make the folder, and note in it the recipe, and what the run, begun or resumed, is made of."""
        self.path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self._recipe.to_json(), indent=2, ensure_ascii=False) + "\n"
        (self.path / RECIPE).write_text(text, encoding="utf-8")
        _append(self.path / PROVENANCE, provenance)

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
        """Write the checkpoint of a step; only then remove what it makes superfluous."""
        folder = self.path / "checkpoints" / f"step-{step:08d}"
        save_checkpoint(folder, parameters, config, tokenizer_model, training_state)
        to_average = self._to_average()
        for old in self._checkpoints()[:-1]:
            if old in to_average:
                (old / "training.safetensors").unlink(missing_ok=True)
            else:
                shutil.rmtree(old)

    def finish(self, config: CheckpointConfig, tokenizer_model: bytes) -> Path:
        """Average the last checkpoints, and draw the curves; returns the averaged checkpoint."""
        averaged = self.path / "averaged"
        save_checkpoint(averaged, average_parameters(self._to_average()), config, tokenizer_model)
        draw_curves(self._metrics, self.path / "curves.png")
        return averaged

    def append_metrics(self, line: Mapping[str, float]) -> None:
        """Note the measurements of a step."""
        _append(self._metrics, line)

    def drop_metrics_after(self, step: int) -> None:
        """Forget the measurements of steps that are about to be done again."""
        if self._metrics.exists():
            lines = self._metrics.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            self._metrics.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def _checkpoints(self) -> list[Path]:
        return sorted((self.path / "checkpoints").glob("step-*"))

    def _to_average(self) -> list[Path]:
        """The last checkpoints, but not those of an interruption: the average must not depend on when that came."""
        training = self._recipe.training
        folders = self._checkpoints()
        steps = [int(folder.name.removeprefix("step-")) for folder in folders]
        planned = [
            folder
            for folder, step in zip(folders, steps, strict=True)
            if step % training.validate_every == 0 or step == training.max_steps
        ]
        return planned[-training.average_checkpoints :] or folders[-1:]


def _append(path: Path, line: Mapping[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(dict(line), ensure_ascii=False) + "\n")
