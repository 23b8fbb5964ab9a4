"""Plots of the metrics of a training run."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_curves(metrics: Path, picture: Path) -> None:
    """Plot loss, BLEU, gradient norm, learning rate and speed over the updates.

    Args:
        metrics: JSON lines with `step`, `train_loss`, `gradient_norm`, `tokens_per_second`, `learning_rate`, and the
            scores of `validation.measure`. The validation curves have a gap where `validation`, the fingerprint of the
            validation sets, changes.
        picture: The PNG file to write.
    """
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    (loss, bleu), (norm, rate) = figure.subplots(2, 2)
    loss.plot(steps, [line["train_loss"] for line in lines], label="training (with dropout)")
    for name, axes, label in (("validation_loss", loss, "validation"), ("bleu", bleu, "mean")):
        _plot_measured(axes, lines, name, label)
    sets = sorted({name for line in lines for name in line if name.startswith("bleu/")})
    for name in sets:
        _plot_measured(bleu, lines, name, name.removeprefix("bleu/"))
    norm.plot(steps, [line.get("gradient_norm") for line in lines], label="norm of the gradient before clipping")
    rate.plot(steps, [line["learning_rate"] for line in lines], label="learning rate")
    speed = rate.twinx()
    speed.plot(steps, [line.get("tokens_per_second") for line in lines], color="tab:orange")
    speed.set_ylabel("target tokens a second (orange)")
    loss.set(title="Loss without label smoothing", xlabel="updates", ylabel="nats a token")
    bleu.set(title="BLEU on validation text, greedy", xlabel="updates", ylabel="sacreBLEU 13a")
    norm.set(title="Gradient", xlabel="updates")
    rate.set(title="Learning rate and speed", xlabel="updates")
    for axes in (loss, bleu, norm, rate):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(picture, dpi=120)


def _plot_measured(axes: Axes, lines: Sequence[dict[str, Any]], name: str, label: str) -> None:
    """Plot one metric, with a gap where the validation sets change."""
    colour = None
    for _, group in itertools.groupby(lines, key=lambda line: line.get("validation")):
        same = list(group)
        (drawn,) = axes.plot(
            [line["step"] for line in same],
            [line.get(name, math.nan) for line in same],
            color=colour,
            label=label if colour is None else None,
        )
        colour = drawn.get_color()
