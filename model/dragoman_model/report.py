"""What a training run says while it goes: to the terminal, to the metrics of its folder, to TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from dragoman_model.run_folder import RunFolder
from dragoman_model.training_state import Progress

_EVERY = 20
"""Updates between figures on the progress bar."""


class Report:
    """A context: the progress bar and TensorBoard's file are closed at its end."""

    def __init__(self, folder: RunFolder, max_steps: int, step: int) -> None:
        self._folder = folder
        self._writer = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)
        self._bar = tqdm(
            total=max_steps, initial=step, unit="step", desc="training", dynamic_ncols=True,
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        )  # fmt: skip

    def advance(self, loss: float, progress: Progress) -> None:
        """Another update is done; `loss` is in nats a token."""
        self._bar.update()
        if progress.step % _EVERY == 0:
            rate = progress.tokens / progress.seconds
            self._bar.set_postfix_str(f"loss {loss:.3f}, {rate:,.0f} tokens/s", refresh=False)

    def measured(self, scores: Mapping[str, float], learning_rate: float, progress: Progress) -> None:
        """`scores` are those of `validation.measure`."""
        train_loss = progress.unreported_loss / max(1, progress.unreported_tokens)
        reported = {"train_loss": train_loss, "learning_rate": learning_rate, **scores}
        counts = {"step": progress.step, "epoch": progress.epoch, "tokens": progress.tokens}
        self._folder.append_metrics({**counts, "seconds": round(progress.seconds), **reported})
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
