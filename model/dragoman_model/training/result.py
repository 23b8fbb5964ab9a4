"""The result of a run: the best checkpoint, or its average with its neighbours, whichever has the higher BLEU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from dragoman_model.checkpoint import average_parameters
from dragoman_model.training.run_folder import step_of
from dragoman_model.training.training_state import Progress


@dataclass(frozen=True, slots=True)
class Result:
    """The chosen parameters."""

    parameters: dict[str, Tensor]
    steps: list[int]
    """The steps of the averaged checkpoints."""
    why: str
    """The chosen checkpoints and the reason, as one line for the log."""


def choose_result(around: Sequence[Path], progress: Progress, bleu_of: Callable[[dict[str, Tensor]], float]) -> Result:
    """Choose between the average of the checkpoints and the best one, by BLEU on the validation sets.

    Args:
        around: The checkpoints to average (section 6.1 of Vaswani et al. 2017), the best one included.
        progress: The step and the BLEU of the best checkpoint. If nothing was measured, the average is chosen.
        bleu_of: Measures the BLEU of parameters on the validation sets.

    Raises:
        InvalidInput: a checkpoint cannot be read.
    """
    steps, average = [step_of(path) for path in around], average_parameters(around)
    shown = ", ".join(f"{step:,}" for step in steps)
    best, best_bleu = progress.best_step, progress.best_bleu
    if not best:
        return Result(average, steps, f"the checkpoint of step {shown} (nothing was measured)")
    if len(steps) == 1:
        return Result(average, steps, f"the checkpoint of step {shown} (the best, BLEU {best_bleu:.2f})")
    bleu = bleu_of(average)
    if bleu >= best_bleu:
        why = f"which has BLEU {bleu:.2f}; the best of them, step {best:,}, {best_bleu:.2f}"
        return Result(average, steps, f"the average of the checkpoints of steps {shown} ({why})")
    why = f"the best; its average with its neighbours has BLEU {bleu:.2f}, less than {best_bleu:.2f}"
    alone = average_parameters([path for path in around if step_of(path) == best])
    return Result(alone, [best], f"the checkpoint of step {best:,} ({why})")
