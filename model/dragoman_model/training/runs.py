"""A table that compares training runs: settings, progress and scores."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman_model.markdown import markdown_table
from dragoman_model.training.run_folder import METRICS, PROVENANCE, RECIPE, read_metrics
from dragoman_service.errors import InvalidInput

COLUMNS = (
    "run", "model", "words", "lr", "dropout", "steps", "M tokens", "hours", "loss", "BLEU", "at", "planned", "code",
)  # fmt: skip
"""`words` is the vocabulary size, `at` the update of the best BLEU, `planned` the updates of the whole run."""


@dataclass(frozen=True, slots=True)
class Run:
    """The contents of the folder of a run."""

    name: str
    recipe: dict[str, Any]
    metrics: list[dict[str, Any]]
    """A line for each validation; empty before the first."""
    starts: list[dict[str, Any]]
    """The `provenance` of each start: the first one and those that resumed the run."""

    def row(self) -> list[str]:
        """The cells of the run, in the order of `COLUMNS`."""
        model, training = self.recipe["model"], self.recipe["training"]
        shape = f"{model['encoder_layers']}+{model['decoder_layers']}x{model['d_model']}"
        settings = [shape, model["vocab_size"], training["learning_rate_scale"], model["dropout"]]
        return [self.name, *map(str, settings), *self._progress(), self._code()]

    def _progress(self) -> list[str]:
        planned = f"{self.recipe['training']['max_steps']:,}"
        if not self.metrics:
            return ["0", "0", "0", "-", "-", "-", planned]
        last = self.metrics[-1]
        comparable = [line for line in self.metrics if line.get("validation") == last.get("validation")]
        best = max(comparable, key=lambda line: float(line["bleu"]))
        return [
            f"{last['step']:,}",
            f"{last['tokens'] / 1e6:.1f}",
            f"{last['seconds'] / 3600:.2f}",
            f"{last['validation_loss']:.3f}",
            f"{best['bleu']:.2f}",
            f"{best['step']:,}",
            planned,
        ]

    def _code(self) -> str:
        """The commits that the run was started on. A plus stands for uncommitted changes."""
        states = [start["git"] for start in self.starts]
        commits = [f"{git['commit'][:7]}{'+' * git['changed']}" if git else "?" for git in states]
        return " ".join(dict.fromkeys(commits)) or "?"


def find_runs(folder: Path) -> list[Run]:
    """All runs in a folder and its subfolders, sorted by path.

    Raises:
        InvalidInput: there is no such folder, or a file of a run cannot be read.
    """
    if not folder.is_dir():
        raise InvalidInput("FOLDER", str(folder), "a folder with runs of `dragoman train`")
    return [read_run(path.parent, folder) for path in sorted(folder.rglob(RECIPE))]


def read_run(folder: Path, below: Path) -> Run:
    """Read the run in `folder`. Its name is its path relative to `below`. Raises as `find_runs` does."""
    name = folder.relative_to(below).as_posix() if folder != below else folder.name
    try:
        recipe = json.loads((folder / RECIPE).read_text(encoding="utf-8"))
        return Run(name, recipe, read_metrics(folder / METRICS), read_metrics(folder / PROVENANCE))
    except (OSError, ValueError) as error:
        raise InvalidInput("FOLDER", str(folder), f"the folder of a run, whole ({error})") from error


def table(runs: Iterable[Run]) -> str:
    """A Markdown table of runs."""
    return markdown_table(COLUMNS, (run.row() for run in runs))
