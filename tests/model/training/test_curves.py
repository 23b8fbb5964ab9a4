from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.axes import Axes

from dragoman_model.training.curves import draw_curves


def test_curves_are_cut_where_the_validation_sets_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str | None, list[float]]] = []
    plot = Axes.plot

    def recorded(axes: Axes, steps: list[float], values: list[float], **settings: Any) -> Any:
        drawn.append((settings.get("label"), list(steps)))
        return plot(axes, steps, values, **settings)

    monkeypatch.setattr(Axes, "plot", recorded)
    common = {"train_loss": 2.0, "learning_rate": 1e-3, "validation_loss": 2.1, "bleu": 5.0}
    new = {"gradient_norm": 0.5, "tokens_per_second": 900.0}
    lines = [{"step": 1, **common}, {"step": 2, "validation": "a", **common, **new}]
    lines += [{"step": step, "validation": "b", **common, **new} for step in (3, 4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    draw_curves(tmp_path / "metrics.jsonl", tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert drawn[0] == ("training (with dropout)", [1, 2, 3, 4])
    assert drawn[1:4] == [("validation", [1]), (None, [2]), (None, [3, 4])]
    assert drawn[4:7] == [("mean", [1]), (None, [2]), (None, [3, 4])]
