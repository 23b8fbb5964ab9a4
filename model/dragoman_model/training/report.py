"""Progress reports of a training run: on the terminal, in the metrics file of its folder, and in TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from dragoman_model.recipe import Recipe
from dragoman_model.training.optim import computes_bf16
from dragoman_model.training.run_folder import RunFolder
from dragoman_model.training.training_state import Progress
from dragoman_model.transformer import Transformer

_EVERY = 20
"""Updates between two changes of the loss and speed shown on the progress bar."""


class Report:
    """The progress bar and TensorBoard's event file of a run. A context manager, which closes both."""

    def __init__(self, folder: RunFolder, max_steps: int, step: int) -> None:
        self._folder = folder
        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)
        self._bar = tqdm(
            total=max_steps, initial=step, unit="step", desc="training", dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )  # fmt: skip

    def advance(self, loss: float, progress: Progress) -> None:
        """Show one more update. `loss` is in nats per target token."""
        self._bar.update()
        if progress.step % _EVERY == 0:
            self._bar.set_postfix_str(f"loss {loss:.3f}, {_rate(progress):,.0f} tokens/s", refresh=False)

    def measured(self, scores: Mapping[str, float], learning_rate: float, progress: Progress) -> None:
        """Report a validation: the scores of `validation.measure`, and the training metrics since the last one."""
        train_loss = progress.unreported_loss / max(1, progress.unreported_tokens)
        norm = progress.unreported_norm / max(1, progress.unreported_updates)
        reported = {"train_loss": train_loss, "gradient_norm": norm, "learning_rate": learning_rate, **scores}
        reported["tokens_per_second"] = round(_rate(progress), 1)
        counts = {"step": progress.step, "epoch": progress.epoch, "tokens": progress.tokens}
        seconds = round(progress.seconds)
        self._folder.append_metrics({**counts, "seconds": seconds, "validation": progress.validation, **reported})
        for name, value in reported.items():
            self._writer.add_scalar(name, value, progress.step)
        tqdm.write(
            f"step {progress.step:,}: train loss {train_loss:.3f}, "
            f"validation loss {scores['validation_loss']:.3f}, BLEU {scores['bleu']:.2f} "
            f"(best {progress.best_bleu:.2f} at step {progress.best_step:,})",
            file=sys.stderr,
        )

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._bar.close()
        self._writer.close()


def _rate(progress: Progress) -> float:
    """Target tokens per second of the updates since the last validation."""
    return progress.unreported_tokens / max(progress.unreported_seconds, 1e-9)


def description(model: Transformer, recipe: Recipe, device: torch.device, processes: int, step: int) -> str:
    """Model, device, precision and length of the run, as one line of text."""
    config, training = recipe.model, recipe.training
    bf16 = computes_bf16(device) if training.precision == "auto" else training.precision == "bf16"
    return (
        f"model: {sum(p.numel() for p in model.parameters()):,} parameters ({config.encoder_layers}+"
        f"{config.decoder_layers} layers, d_model {config.d_model}, {config.vocab_size:,} subwords); "
        f"device: {device}; processes: {processes}, of {torch.get_num_threads()} CPU threads; "
        f"precision: {'bf16' if bf16 else 'fp32'}; "
        f"from step {step:,} to at most {training.max_steps:,}"
    )
