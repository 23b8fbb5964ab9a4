"""The training loop. A run that is resumed from a checkpoint has the same losses as one without an interruption."""

from __future__ import annotations

import dataclasses
import logging
import math
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dragoman_model.checkpoint import Checkpoint, CheckpointConfig, load_training_state
from dragoman_model.config import DROPOUTS
from dragoman_model.data.batches import TokenizedCorpus
from dragoman_model.data.prepare import PreparedData
from dragoman_model.recipe import Recipe
from dragoman_model.training.course import changes, course, shown
from dragoman_model.training.epochs import planned
from dragoman_model.training.loss import loss_sum
from dragoman_model.training.optim import learning_rate, make_optimizer, matmul_precision
from dragoman_model.training.report import Report, description
from dragoman_model.training.result import choose_result
from dragoman_model.training.run_folder import RunFolder
from dragoman_model.training.training_state import Progress, restore, state_tensors
from dragoman_model.training.validation import measure
from dragoman_model.training.workers import Workers
from dragoman_model.transformer import Transformer
from dragoman_service.errors import DragomanError, InvalidInput
from dragoman_service.runtime.memory import trim

log = logging.getLogger(__name__)

ALONE = Workers()
TRIM_EVERY = 100
"""Updates after which freed memory is returned to the system. Batches have ever new shapes, and blocks that do not fit
the next one would pile up."""


class TrainingDiverged(DragomanError):
    """The loss or the gradient became NaN or infinite. The last checkpoint was written before that."""

    reason = "training_diverged"


class Trainer:
    """One run of a recipe in one folder (see `RunFolder`)."""

    def __init__(
        self, recipe: Recipe, data: PreparedData, folder: Path, device: torch.device, workers: Workers = ALONE
    ) -> None:
        """Set up a run, or the share of one of several processes.

        Raises:
            InvalidInput: the batches of an update cannot be shared equally among the processes.
        """
        accumulate = recipe.training.accumulate
        if accumulate % workers.count:
            allowed = f"a multiple of {workers.count}, the number of processes, which share the batches of an update"
            raise InvalidInput("training.accumulate", accumulate, allowed)
        self.recipe, self.data, self.device, self.workers = recipe, data, device, workers
        self.folder = RunFolder(folder, recipe)
        self.progress = Progress()
        torch.manual_seed(recipe.training.seed)
        self.model = Transformer(recipe.model).to(device)
        self.optimizer = make_optimizer(self.model)
        self._stop_requested = self._stop_agreed = False
        self._course = course(recipe, data.provenance["data"])
        self._changes: dict[str, tuple[Any, Any]] = {}
        self._seed_further_process()

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Use the parameters of a trained model instead of random ones.

        Raises:
            InvalidInput: the model has another shape or vocabulary than the recipe.
        """
        wanted_dropouts = {name: getattr(self.recipe.model, name) for name in DROPOUTS}
        found = dataclasses.replace(checkpoint.config.model, **wanted_dropouts)
        if found != self.recipe.model:
            wanted, got = self.recipe.model.to_json(), found.to_json()
            fields = [name for name in wanted | got if wanted.get(name) != got.get(name)]
            shown = ", ".join(f"{name} {getattr(found, name)}" for name in fields)
            asked = ", ".join(f"{name} {getattr(self.recipe.model, name)}" for name in fields)
            raise InvalidInput("--init", shown, f"a checkpoint of the model of the recipe: {asked}")
        if checkpoint.tokenizer.fingerprint != self.data.tokenizer.fingerprint:
            raise InvalidInput("--init", "a checkpoint with another vocabulary", "one with the vocabulary of this run")
        self.model.load_state_dict(checkpoint.model.state_dict())

    def resume(self, allow_changes: bool = False) -> None:
        """Load the newest checkpoint of the folder.

        Args:
            allow_changes: Accept changes of settings or text that decide what is learned.

        Raises:
            InvalidInput: there is no checkpoint; it belongs to another model or vocabulary; or there are such changes
                and they are not accepted.
        """
        checkpoint = self.folder.newest_checkpoint()
        parameters, tensors, state = load_training_state(checkpoint)
        if state.get("tokenizer") != self.data.tokenizer.fingerprint:
            raise InvalidInput("--resume", str(checkpoint), "a checkpoint with the vocabulary of this run")
        try:
            self.model.load_state_dict(parameters)
            restore(tensors, self.model, self.optimizer, self.device)
            self.progress = Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError) as error:
            allowed = f"a checkpoint of this recipe's model ({error})"
            raise InvalidInput("--resume", str(checkpoint), allowed) from error
        self._check_changes(allow_changes)
        self._seed_further_process()
        if self.workers.is_first:
            self.folder.drop_metrics_after(self.progress.step)

    def run(self) -> Path | None:
        """Train to the last step of the recipe, or until early stopping. SIGINT and SIGTERM end it with a checkpoint.

        Returns:
            The folder of the resulting checkpoint; None in all processes but the first.

        Raises:
            TrainingDiverged: the loss or the gradient became NaN or infinite.
            KeyboardInterrupt: SIGINT or SIGTERM was received, and the checkpoint is written.
        """
        handlers = {s: signal.signal(s, self._request_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            self._check_agreement()
            if not self.workers.is_first:
                self._loop(None)
                return None
            started = {"device": str(self.device), "processes": self.workers.count, "step": self.progress.step}
            self.folder.create(self.data.provenance | started | {"changes": self._changes})
            log.info("%s", description(self.model, self.recipe, self.device, self.workers.count, self.progress.step))
            with Report(self.folder, self.recipe.training.max_steps, self.progress.step) as report:
                self._loop(report)
            return self._finish()
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)

    def _loop(self, report: Report | None) -> None:
        training, progress = self.recipe.training, self.progress
        started = time.monotonic() - progress.seconds
        batches = planned(self.data, training, progress)
        while progress.step < training.max_steps and not self._out_of_patience():
            began = time.monotonic()
            loss, tokens = self._update([next(batches) for _ in range(training.accumulate)])
            progress.unreported_seconds += time.monotonic() - began
            progress.unreported_updates += 1
            progress.unreported_loss += loss
            progress.unreported_tokens += tokens
            progress.seconds = time.monotonic() - started
            if progress.step % TRIM_EVERY == 0:
                trim()
            if report:
                report.advance(loss / tokens, progress)
            measured = progress.step % training.validate_every == 0 or progress.step == training.max_steps
            if measured:
                self._validate(report)
                progress.seconds = time.monotonic() - started
            # A signal may have reached only one of several processes: they agree in the next update, and stop after it.
            stop = self._stop_requested if self.workers.count == 1 else self._stop_agreed
            if (measured or stop) and self.workers.is_first:
                self._save()
            if stop:
                raise KeyboardInterrupt

    def _update(self, batches: Sequence[tuple[TokenizedCorpus, np.ndarray]]) -> tuple[float, int]:
        """Do one update with the summed gradients of several batches. A batch is a text and the indices of its pairs.

        Returns:
            The loss in nats without label smoothing, summed over the target tokens, and the number of these tokens.
        """
        training, progress, workers = self.recipe.training, self.progress, self.workers
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(int(text.lengths[indices, 1].sum()) for text, indices in batches)
        losses, unsmoothed = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        for text, indices in batches[workers.rank :: workers.count]:
            batch = text.batch(indices)
            with matmul_precision(training, self.device):
                source, target = batch.source.to(self.device), batch.target.to(self.device)
                loss = loss_sum(self.model, source, target, training.label_smoothing, unsmoothed)
            (loss / tokens).backward()  # type: ignore[no-untyped-call]
            losses += loss.detach()
        stop = torch.tensor(float(self._stop_requested), device=self.device)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        workers.add_up([losses, unsmoothed, stop, *gradients])
        total, self._stop_agreed = float(losses), bool(stop)
        # Without clipping the bound is infinite, because the norm is reported and checked in any case.
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm or math.inf)
        if not math.isfinite(total) or not math.isfinite(norm):
            raise TrainingDiverged(
                f"the loss is {total}, the norm of the gradient {float(norm)} at step {progress.step + 1}; resume from "
                "the last checkpoint with a lower training.learning_rate_scale, longer training.warmup_steps, or "
                "training.precision=fp32 (--resume --allow-changes)"
            )
        progress.step += 1
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(progress.step, self.recipe.model.d_model, training)
        self.optimizer.step()
        progress.tokens += tokens
        progress.unreported_norm += float(norm)
        return float(unsmoothed), tokens

    def _validate(self, report: Report | None) -> None:
        """Measure and report in the first process. All processes get the best BLEU and its step, for early stopping."""
        progress = self.progress
        if report:
            scores = measure(self.model, self.data, self.recipe.training, self.device)
            self._set_validation(self.data.validation_fingerprint)
            found = scores["bleu"], -scores["validation_loss"]
            if found > (progress.best_bleu, -progress.best_loss):
                progress.best_bleu, progress.best_loss = scores["bleu"], scores["validation_loss"]
                progress.best_step = progress.step
            report.measured(scores, self.optimizer.param_groups[0]["lr"], progress)
        progress.best_bleu, best_step = self.workers.follow_first([progress.best_bleu, progress.best_step], self.device)
        progress.best_step = int(best_step)
        progress.unreported_loss, progress.unreported_tokens = 0.0, 0
        progress.unreported_seconds, progress.unreported_norm, progress.unreported_updates = 0.0, 0.0, 0

    def _check_agreement(self) -> None:
        """Raise InvalidInput unless all processes have the same number of pairs, vocabulary and step."""
        mine = [len(self.data.train), int(self.data.tokenizer.fingerprint[:12], 16), self.progress.step]
        first = self.workers.follow_first(mine, self.device)
        if first != mine:
            raise InvalidInput(
                "data", f"other text, vocabulary or step in process {self.workers.rank}", "the same in all"
            )

    def _seed_further_process(self) -> None:
        """Seed dropout in all processes but the first, so that each process drops other elements.

        The first process keeps the generator state of the checkpoint, which is its own. The others get a new seed.
        """
        if not self.workers.is_first:
            training = self.recipe.training
            torch.manual_seed((training.seed * 1_000_003 + self.progress.step) * 1009 + self.workers.rank)

    def _out_of_patience(self) -> bool:
        training, progress = self.recipe.training, self.progress
        waited = (progress.step - progress.best_step) // training.validate_every
        return training.patience > 0 and progress.best_step > 0 and waited >= training.patience

    def _check_changes(self, allow_changes: bool) -> None:
        """Compare recipe and text with those of the resumed run. Raises InvalidInput for a change that is refused."""
        self._changes = changes(self.folder.course(), self._course, allow_changes)
        if self._changes and self.workers.is_first:
            log.warning("changed at step %s: %s", f"{self.progress.step:,}", shown(self._changes))
        self._set_validation(self.data.validation_fingerprint)

    def _set_validation(self, validation: str) -> None:
        """Set the fingerprint of the validation sets. If it changes, forget the best BLEU, which is not comparable."""
        progress = self.progress
        if progress.validation and progress.validation != validation:
            log.info("the validation sets have changed: the best BLEU so far is discarded")
            progress.best_bleu, progress.best_loss, progress.best_step = -1.0, 0.0, 0
        progress.validation = validation

    def _finish(self) -> Path:
        def bleu_of(parameters: dict[str, Tensor]) -> float:
            self.model.load_state_dict(parameters)
            return measure(self.model, self.data, self.recipe.training, self.device)["bleu"]

        chosen = choose_result(self.folder.to_average(self.progress.best_step), self.progress, bleu_of)
        log.info("result: %s", chosen.why)
        config = self._config()
        config.training["averaged_steps"] = chosen.steps
        return self.folder.finish(chosen.parameters, config, self.data.tokenizer_model)

    def _save(self) -> None:
        state = {"tokenizer": self.data.tokenizer.fingerprint, "progress": dataclasses.asdict(self.progress)}
        self.folder.save(
            self.progress.step,
            self.model.state_dict(),
            self._config(),
            self.data.tokenizer_model,
            (state_tensors(self.model, self.optimizer, self.device), state),
        )

    def _config(self) -> CheckpointConfig:
        data = self.recipe.data
        names = ("step", "epoch", "tokens", "seconds", "best_bleu", "best_step")
        summary = {name: getattr(self.progress, name) for name in names}
        summary |= {"data": self.data.summary, "recipe": self.recipe.to_json()}
        return CheckpointConfig(self.recipe.model, data.language_pairs, data.max_tokens, data.max_tokens, summary)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_requested = True
