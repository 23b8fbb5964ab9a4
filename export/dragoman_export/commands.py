"""The command `dragoman export`. Heavy packages are imported when it runs, not for `--help`."""

from __future__ import annotations

import argparse
from pathlib import Path


class Export:
    """Turn a checkpoint into a model bundle that `dragoman serve` can take into service.

    The graphs are compared with the PyTorch model first, on real and on random sentences. Only if they agree is the
    bundle written.
    """

    help = "turn a checkpoint into a model bundle, verified against PyTorch"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add = parser.add_argument
        add("checkpoint", type=Path, metavar="CHECKPOINT", help="folder of a checkpoint, as `dragoman train` writes it")
        add(
            "--output", type=Path, required=True, metavar="FOLDER/NAME/VERSION", help="folder of the bundle, to be made"
        )
        add("--name", dest="model_name", help="name of the model (default: the last folder but one of --output)")
        add("--version", dest="model_version", help="version of the model (default: the last folder of --output)")
        add("--description", default="", help="one line for people")
        add(
            "--precision",
            default="fp32",
            help="numbers to compute with: fp32, int8 (for CPUs) or fp16 (for GPUs; default: fp32)",
        )
        add(
            "--sentences",
            type=Path,
            metavar="FILE",
            help="source sentences to verify with, one a line",
        )
        add(
            "--calibration",
            type=Path,
            metavar="FILE",
            help="for int8: source sentences such as the model will be given, one a line, a few hundred of all kinds; "
            "its scales are measured on them (default: --sentences)",
        )
        add("--scores", type=Path, metavar="JSON", help="list of {test_set, metric, value, signature} for the manifest")
        add("--notes", type=Path, metavar="FILE", help="Markdown for MODEL_CARD.md: data, licences, strengths, limits")
        add("--force", action="store_true", help="replace a bundle that is there already")

    def run(self, args: argparse.Namespace) -> int:
        """Export; returns the exit status."""
        from dragoman_export.exporter import ExportOptions, export_checkpoint  # noqa: PLC0415

        options = ExportOptions(
            name=args.model_name or args.output.resolve().parent.name,
            version=args.model_version or args.output.resolve().name,
            description=args.description,
            precision=args.precision,
            sentences=args.sentences,
            calibration=args.calibration,
            scores=args.scores,
            notes=args.notes,
            force=args.force,
        )
        bundle, report = export_checkpoint(args.checkpoint, args.output, options)
        print(f"{bundle.path}: {bundle.manifest.name} version {bundle.manifest.version}, {bundle.manifest.precision}")
        print(
            f"{report.sentences} sentences translated as PyTorch does ({len(report.ties)} ties); "
            f"log-probabilities within {report.distance.log_prob_error:.1e}"
        )
        if args.precision != "fp32":
            print(
                f"{args.precision} against fp32: divergence {report.from_model.divergence:.1e} nats, "
                f"the same likeliest token at {report.from_model.agreement:.1%} of the positions"
            )
        return 0


export = Export()
