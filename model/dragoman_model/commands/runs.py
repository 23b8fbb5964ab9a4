"""`dragoman runs`."""

from __future__ import annotations

import argparse
from pathlib import Path


class RunsCommand:
    """Compare training runs in a Markdown table: model shape, settings, progress, validation loss and best BLEU.

    The folder of a run has the details: recipe.json (every setting), provenance.jsonl (code, libraries, machine and
    fingerprints of the text at each start), metrics.jsonl and curves.png.

      dragoman runs
      dragoman runs experiments/dropout
    """

    help = "compare training runs"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "folder",
            type=Path,
            nargs="?",
            default=Path("runs"),
            metavar="FOLDER",
            help="folder of runs (default: runs)",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Print the table. Returns the exit status."""
        from dragoman_model.training.runs import find_runs, table  # noqa: PLC0415 - imports PyTorch

        print(table(find_runs(args.folder)))
        return 0
