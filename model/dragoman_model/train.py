"""The training loop: resumable at any checkpoint with the same losses as if it had never stopped."""

from __future__ import annotations

import dataclasses
import logging
import math
import signal
import sys
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
from dragoman_model.checkpoint import Checkpoint, CheckpointConfig, load_training_state
from dragoman_model.loss import loss_sum
from dragoman_model.optim import computes_bf16, learning_rate, make_optimizer, matmul_precision
from dragoman_model.prepare import PreparedData
from dragoman_model.recipe import Recipe
from dragoman_model.run_folder import RunFolder
from dragoman_model.transformer import Transformer
from dragoman_model.validation import measure
from dragoman_service.errors import DragomanError, InvalidInput

log = logging.getLogger(__name__)


class TrainingDiverged(DragomanError):
    """The loss is no longer a number; the last checkpoint is from before that."""

    reason = "training_diverged"


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
    unreported_loss: float = 0.0
    """Training loss in nats, summed over the target tokens since the last measurement."""
    unreported_tokens: int = 0
    """The number of these tokens."""


class Trainer:
    """One run of a recipe in one folder (see `RunFolder`)."""

    def __init__(self, recipe: Recipe, data: PreparedData, folder: Path, device: torch.device) -> None:
        self.recipe, self.data, self.device = recipe, data, device
        self.folder = RunFolder(folder, recipe)
        self.progress = Progress()
        torch.manual_seed(recipe.training.seed)
        self.model = Transformer(recipe.model).to(device)
        self.optimizer = make_optimizer(self.model)
        self._stop_requested = False

    def start_from(self, checkpoint: Checkpoint) -> None:
        """Begin with the parameters of a model that has learned something already, instead of random ones.

        Raises:
            InvalidInput: it has another shape or vocabulary than the recipe asks for.
        """
        found = dataclasses.replace(checkpoint.config.model, dropout=self.recipe.model.dropout)
        if found != self.recipe.model:
            wanted, got = self.recipe.model.to_json(), found.to_json()
            fields = [name for name in wanted if wanted[name] != got[name]]
            shown = ", ".join(f"{name} {got[name]}" for name in fields)
            asked = ", ".join(f"{name} {wanted[name]}" for name in fields)
            raise InvalidInput("--init", shown, f"a checkpoint of the model of the recipe: {asked}")
        if checkpoint.tokenizer.fingerprint != self.data.tokenizer.fingerprint:
            raise InvalidInput("--init", "a checkpoint with another vocabulary", "one with the vocabulary of this run")
        self.model.load_state_dict(checkpoint.model.state_dict())

    def resume(self) -> None:
        """Go back to the newest checkpoint of the folder.

        Raises:
            InvalidInput: there is none, or it belongs to another model or vocabulary.
        """
        checkpoint = self.folder.newest_checkpoint()
        parameters, tensors, state = load_training_state(checkpoint)
        if state.get("tokenizer") != self.data.tokenizer.fingerprint:
            raise InvalidInput("--resume", str(checkpoint), "a checkpoint with the vocabulary of this run")
        try:
            self.model.load_state_dict(parameters)
            self._load_optimizer(tensors)
            torch.set_rng_state(tensors["rng.cpu"])
            if self.device.type == "cuda" and "rng.cuda" in tensors:
                torch.cuda.set_rng_state(tensors["rng.cuda"], self.device)
            self.progress = Progress(**state["progress"])
        except (RuntimeError, KeyError, TypeError) as error:
            allowed = f"a checkpoint of this recipe's model ({error})"
            raise InvalidInput("--resume", str(checkpoint), allowed) from error
        self.folder.drop_metrics_after(self.progress.step)

    def run(self) -> Path:
        """Train to the end of the recipe, or until early stopping; SIGINT and SIGTERM save a checkpoint and end it.

        Returns:
            The folder of the averaged checkpoint.

        Raises:
            TrainingDiverged: the loss became NaN or infinite.
            KeyboardInterrupt: after a signal, once the checkpoint is written.
        """
        self.folder.create(self.data.provenance | {"device": str(self.device)})
        log.info("%s", self._description())
        handlers = {s: signal.signal(s, self._request_stop) for s in (signal.SIGINT, signal.SIGTERM)}
        step = self.progress.step
        writer = SummaryWriter(str(self.folder.tensorboard), purge_step=step + 1)
        bar = tqdm(
            total=self.recipe.training.max_steps, initial=step, unit="step", desc="training", dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )  # fmt: skip
        try:
            self._loop(bar, writer)
        finally:
            bar.close()
            writer.close()
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return self.folder.finish(self._config(), self.data.tokenizer_model)

    def _loop(self, bar: tqdm[Any], writer: SummaryWriter) -> None:
        training, progress = self.recipe.training, self.progress
        started = time.monotonic() - progress.seconds
        batches = self._batches()
        while progress.step < training.max_steps and not self._out_of_patience():
            loss, tokens = self._update([next(batches) for _ in range(training.accumulate)])
            progress.unreported_loss += loss
            progress.unreported_tokens += tokens
            progress.seconds = time.monotonic() - started
            bar.update()
            if progress.step % 20 == 0:
                rate = progress.tokens / progress.seconds
                bar.set_postfix_str(f"loss {loss / tokens:.3f}, {rate:,.0f} tokens/s", refresh=False)
            measured = progress.step % training.validate_every == 0 or progress.step == training.max_steps
            if measured:
                self._validate(writer)
                progress.seconds = time.monotonic() - started
            if measured or self._stop_requested:
                self._save()
            if self._stop_requested:
                raise KeyboardInterrupt

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
        # Without clipping the bound is infinite: the norm is computed all the same.
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm or math.inf)
        if not math.isfinite(total) or not math.isfinite(norm):
            raise TrainingDiverged(
                f"the loss is {total}, the norm of the gradient {float(norm)} at step {progress.step + 1}; resume from "
                "the last checkpoint with a lower training.learning_rate_scale, longer training.warmup_steps, or "
                "training.precision=fp32"
            )
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

    def _validate(self, writer: SummaryWriter) -> None:
        """Measure, and report it to the metrics, to TensorBoard and to whoever looks on."""
        progress = self.progress
        scores = measure(self.model, self.data, self.recipe.training, self.device)
        if scores["bleu"] > progress.best_bleu:
            progress.best_bleu, progress.best_step = scores["bleu"], progress.step
        reported = {
            "train_loss": progress.unreported_loss / max(1, progress.unreported_tokens),
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            **scores,
        }
        progress.unreported_loss, progress.unreported_tokens = 0.0, 0
        counts = {"step": progress.step, "epoch": progress.epoch, "tokens": progress.tokens}
        self.folder.append_metrics({**counts, "seconds": round(progress.seconds), **reported})
        for name, value in reported.items():
            writer.add_scalar(name, value, progress.step)
        tqdm.write(
            f"step {progress.step:,}: train loss {reported['train_loss']:.3f}, "
            f"validation loss {scores['validation_loss']:.3f}, BLEU {scores['bleu']:.2f} "
            f"(best {progress.best_bleu:.2f} at step {progress.best_step:,})",
            file=sys.stderr,
        )

    def _out_of_patience(self) -> bool:
        training, progress = self.recipe.training, self.progress
        waited = (progress.step - progress.best_step) // training.validate_every
        return training.patience > 0 and progress.best_step > 0 and waited >= training.patience

    def _save(self) -> None:
        state = {"tokenizer": self.data.tokenizer.fingerprint, "progress": dataclasses.asdict(self.progress)}
        self.folder.save(
            self.progress.step,
            self.model.state_dict(),
            self._config(),
            self.data.tokenizer_model,
            (self._optimizer_tensors(), state),
        )

    def _config(self) -> CheckpointConfig:
        data = self.recipe.data
        names = ("step", "epoch", "tokens", "seconds", "best_bleu", "best_step")
        summary = {name: getattr(self.progress, name) for name in names}
        summary |= {"data": self.data.summary, "recipe": self.recipe.to_json()}
        return CheckpointConfig(self.recipe.model, data.language_pairs, data.max_tokens, data.max_tokens, summary)

    def _description(self) -> str:
        """What is about to be trained, in one line."""
        model, training = self.recipe.model, self.recipe.training
        bf16 = computes_bf16(self.device) if training.precision == "auto" else training.precision == "bf16"
        return (
            f"model: {sum(p.numel() for p in self.model.parameters()):,} parameters ({model.encoder_layers}+"
            f"{model.decoder_layers} layers, d_model {model.d_model}, {model.vocab_size:,} subwords); "
            f"device: {self.device}, {torch.get_num_threads()} CPU threads; precision: {'bf16' if bf16 else 'fp32'}; "
            f"from step {self.progress.step:,} to at most {training.max_steps:,}"
        )

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

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_requested = True
