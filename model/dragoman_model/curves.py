"""The picture of a training run."""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


def draw_curves(metrics: Path, picture: Path) -> None:
    """Draw loss and BLEU over steps.

    Args:
        metrics: JSON lines with `step`, `train_loss` and what `validation.measure` returns.
        picture: The PNG file to write.
    """
    lines = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [line["step"] for line in lines]
    figure = Figure(figsize=(10, 4), layout="constrained")
    FigureCanvasAgg(figure)
    loss, bleu = figure.subplots(1, 2)
    loss.plot(steps, [line["train_loss"] for line in lines], label="training (label smoothing, dropout)")
    loss.plot(steps, [line["validation_loss"] for line in lines], label="validation")
    loss.set(title="Loss", xlabel="updates", ylabel="nats a token")
    loss.legend()
    bleu.plot(steps, [line["bleu"] for line in lines], color="tab:green", label="mean")
    sets = sorted({name for line in lines for name in line if name.startswith("bleu/")})
    for name in sets:
        bleu.plot(steps, [line.get(name) for line in lines], linewidth=1, label=name.removeprefix("bleu/"))
    if sets:
        bleu.legend()
    bleu.set(title="BLEU on validation text, greedy", xlabel="updates", ylabel="sacreBLEU 13a")
    for axes in (loss, bleu):
        axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)
