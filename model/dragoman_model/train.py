"""The training loop: resumable at any checkpoint with the same losses as if it had never stopped."""

from __future__ import annotations

import json
import logging
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from dragoman_model.batches import Batch, plan_epoch
from dragoman_model.checkpoint import (
    CheckpointConfig,
    average_parameters,
    load_training_state,
    save_checkpoint,
)
from dragoman_model.curves import draw_curves
from dragoman_model.optim import learning_rate, loss_sum, make_optimizer, matmul_precision
from dragoman_model.prepare import PreparedData
from dragoman_model.recipe import Recipe
from dragoman_model.transformer import Transformer
from dragoman_model.validation import measure
from dragoman_service.errors import InvalidInput

log = logging.getLogger(__name__)


class TrainingDiverged(Exception):
    """The loss is no longer a number; the last checkpoint is from before that."""


@dataclass(slots=True)
class Progress:
    """Where a run stands; written into every checkpoint."""

    step: int = 0
    """Updates done."""
    epoch: int = 0
    """Passes over the data begun, from 0."""
    batch: int = 0
    """Batches of this epoch consumed."""
    tokens: int = 0
    """Target tokens learned from, padding not counted."""
    seconds: float = 0.0
    """Wall-clock time spent, validation included."""
    best_bleu: float = -1.0
    best_step: int = 0


class Trainer:
    """One run of a recipe in one folder.

    The folder holds `recipe.json`, `checkpoints/step-N/`, `averaged/` (the result), `metrics.jsonl`, `curves.png` and
    `tensorboard/`.
    """

    def __init__(self, recipe: Recipe, data: PreparedData, folder: Path, device: torch.device) -> None:
        self.recipe, self.data, self.folder, self.device = recipe, data, folder, device
        self.progress = Progress()
        torch.manual_seed(recipe.training.seed)
        self.model = Transformer(recipe.model).to(device)
        self.optimizer = make_optimizer(self.model)
        self._stop_requested = False
        self._plan: list[Any] = []
        self._planned_epoch = -1

    def resume(self) -> None:
        """Go back to the newest checkpoint of the folder.

        Raises:
            InvalidInput: there is none, or it belongs to another model or vocabulary.
        """
        folders = self._checkpoints()
        if not folders:
            raise InvalidInput("--resume", str(self.folder), "a run folder with a checkpoint")
        parameters, tensors, state = load_training_state(folders[-1])
        if state["tokenizer"] != self.data.tokenizer.fingerprint:
            raise InvalidInput("--resume", str(folders[-1]), "a checkpoint with the vocabulary of this run")
        try:
            self.model.load_state_dict(parameters)
        except RuntimeError as error:
            raise InvalidInput("--resume", str(folders[-1]), f"a checkpoint of this recipe's model ({error})") from error
        self._load_optimizer(tensors)
        torch.set_rng_state(tensors["rng.cpu"])
        if "rng.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
        self.progress = Progress(**state["progress"])
        self._drop_metrics_after(self.progress.step)

    def run(self) -> Path:
        """Train to the end of the recipe, or until early stopping; SIGINT and SIGTERM save a checkpoint and end it.

        Returns:
            The folder of the averaged checkpoint.

        Raises:
            TrainingDiverged: the loss became NaN or infinite.
            KeyboardInterrupt: after a signal, once the checkpoint is written.
        """
        training, progress = self.recipe.training, self.progress
        self.folder.mkdir(parents=True, exist_ok=True)
        _write_json(self.folder / "recipe.json", self.recipe.to_json())
        handlers = {s: signal.signal(s, self._request_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        started = time.monotonic() - progress.seconds
        writer = SummaryWriter(str(self.folder / "tensorboard"), purge_step=progress.step + 1)
        bar = tqdm(total=training.max_steps, initial=progress.step, unit="step", desc="training", dynamic_ncols=True)
        try:
            losses, tokens = 0.0, 0
            batches = self._batches()
            while progress.step < training.max_steps and not self._out_of_patience():
                loss, step_tokens = self._update([next(batches) for _ in range(training.accumulate)])
                losses, tokens = losses + loss, tokens + step_tokens
                progress.seconds = time.monotonic() - started
                bar.update()
                if progress.step % 20 == 0:
                    bar.set_postfix_str(f"loss {loss / step_tokens:.3f}, {progress.tokens / progress.seconds:,.0f} tokens/s")
                if progress.step % training.validate_every == 0 or progress.step == training.max_steps:
                    self._validate(losses / tokens, writer)
                    losses, tokens = 0.0, 0
                if self._stop_requested:
                    self._save()
                    raise KeyboardInterrupt
        finally:
            bar.close()
            writer.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self._finish()

    def _update(self, batches: list[Batch]) -> tuple[float, int]:
        """One update from the gradients of several batches; returns the summed loss and the number of target tokens."""
        training, progress = self.recipe.training, self.progress
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(batch.num_tokens for batch in batches)
        total = 0.0
        for batch in batches:
            with matmul_precision(training, self.device):
                loss = loss_sum(
                    self.model, batch.source.to(self.device), batch.target.to(self.device), training.label_smoothing
                )
            (loss / tokens).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        if not math.isfinite(total):
            raise TrainingDiverged(
                f"the loss is {total} at step {progress.step + 1}; resume from the last checkpoint with a lower "
                "training.learning_rate_scale, longer training.warmup_steps, or training.precision=fp32"
            )
        if training.clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        progress.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, self.recipe.model.d_model, training)
        self.optimizer.step()
        progress.tokens += tokens
        return total, tokens

    def _batches(self) -> Iterator[Batch]:
        """Batches from where the run stands, for ever."""
        progress = self.progress
        while True:
            plan = plan_epoch(
                self.data.train.lengths,
                self.data.weights,
                self.recipe.training.batch_tokens,
                seed=self.recipe.training.seed * 1_000_003 + progress.epoch,
            )
            while progress.batch < len(plan):
                progress.batch += 1
                yield self.data.train.batch(plan[progress.batch - 1])
            progress.epoch, progress.batch = progress.epoch + 1, 0

    def _validate(self, train_loss: float, writer: SummaryWriter) -> None:
        progress = self.progress
        scores = measure(self.model, self.data, self.recipe.training, self.device)
        if scores["bleu"] > progress.best_bleu:
            progress.best_bleu, progress.best_step = scores["bleu"], progress.step
        rate = self.optimizer.param_groups[0]["lr"]
        line = {"step": progress.step, "epoch": progress.epoch, "tokens": progress.tokens, "seconds": round(progress.seconds)}
        line |= {"train_loss": train_loss, "learning_rate": rate, **scores}
        with (self.folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        for name in ("train_loss", "learning_rate", *scores):
            writer.add_scalar(name, line[name], progress.step)
        tqdm.write(
            f"step {progress.step:,}: train loss {train_loss:.3f}, validation loss {scores['validation_loss']:.3f}, "
            f"BLEU {scores['bleu']:.2f} (best {progress.best_bleu:.2f} at step {progress.best_step:,})"
        )
        self._save()

    def _out_of_patience(self) -> bool:
        training, progress = self.recipe.training, self.progress
        waited = (progress.step - progress.best_step) // training.validate_every
        return training.patience > 0 and progress.best_step > 0 and waited >= training.patience

    def _save(self) -> None:
        """Write a checkpoint; only then remove what it makes superfluous."""
        state = {"tokenizer": self.data.tokenizer.fingerprint, "progress": _as_json(self.progress)}
        folder = self.folder / "checkpoints" / f"step-{self.progress.step:08d}"
        save_checkpoint(
            folder, self.model.state_dict(), self._config(), self.data.tokenizer_model, (self._optimizer_tensors(), state)
        )
        folders = self._checkpoints()
        for old in folders[:-1]:
            (old / "training.safetensors").unlink(missing_ok=True)
        for old in folders[: -self.recipe.training.average_checkpoints]:
            for file in old.iterdir():
                file.unlink()
            old.rmdir()

    def _finish(self) -> Path:
        """Average the last checkpoints, and draw the curves."""
        folders = self._checkpoints()[-self.recipe.training.average_checkpoints :]
        averaged = self.folder / "averaged"
        save_checkpoint(averaged, average_parameters(folders), self._config(), self.data.tokenizer_model)
        draw_curves(self.folder / "metrics.jsonl", self.folder / "curves.png")
        return averaged

    def _config(self) -> CheckpointConfig:
        data, progress = self.recipe.data, self.progress
        summary = {**_as_json(progress), "data": self.data.summary, "recipe": self.recipe.to_json()}
        return CheckpointConfig(
            self.recipe.model, data.source_language, data.target_language, data.max_tokens, data.max_tokens, summary
        )

    def _checkpoints(self) -> list[Path]:
        return sorted((self.folder / "checkpoints").glob("step-*"))

    def _optimizer_tensors(self) -> dict[str, Tensor]:
        tensors = {"rng.cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            tensors["rng.cuda"] = torch.cuda.get_rng_state(self.device)
        for name, parameter in self.model.named_parameters():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in self.optimizer.state[parameter].items()}
        return tensors

    def _load_optimizer(self, tensors: dict[str, Tensor]) -> None:
        for name, parameter in self.model.named_parameters():
            prefix = f"optimizer.{name}."
            state = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            self.optimizer.state[parameter] = {key: value.to(self.device) for key, value in state.items()}

    def _drop_metrics_after(self, step: int) -> None:
        path = self.folder / "metrics.jsonl"
        if path.exists():
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if json.loads(line)["step"] <= step]
            path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_requested = True


def _as_json(progress: Progress) -> dict[str, Any]:
    return {name: getattr(progress, name) for name in Progress.__slots__}  # type: ignore[attr-defined]


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
