"""The commands `dragoman train` and `dragoman evaluate`. Heavy packages are imported when they run, not for `--help`."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path


class Train:
    """`dragoman train`."""

    help = "train a model from a recipe"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="what to train, on which text")
        parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of this run, such as runs/en-de")
        parser.add_argument(
            "--data", type=Path, metavar="FOLDER", help="folder that the recipe's paths are relative to (default: the recipe's)"
        )
        parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --output")
        parser.add_argument(
            "--set", action="append", default=[], metavar="TABLE.FIELD=VALUE", dest="overrides",
            help="change one setting of the recipe, such as training.max_steps=1000; may be given several times",
        )  # fmt: skip
        parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to train (default: auto)")
        parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")

    def run(self, args: argparse.Namespace) -> int:
        """Train; returns the exit code."""
        import torch  # noqa: PLC0415

        from dragoman_model.prepare import prepare  # noqa: PLC0415
        from dragoman_model.recipe import load_recipe  # noqa: PLC0415
        from dragoman_model.train import Trainer, TrainingDiverged  # noqa: PLC0415
        from dragoman_service.errors import InvalidInput  # noqa: PLC0415

        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
        if args.threads:
            torch.set_num_threads(args.threads)
        if args.device == "cuda" and not torch.cuda.is_available():
            raise InvalidInput("--device", "cuda", "cpu: PyTorch finds no CUDA device here")
        device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
        recipe = load_recipe(args.recipe, args.overrides)
        saved = args.output / "tokenizer.model"
        if args.output.exists() and any(args.output.iterdir()) and not args.resume:
            raise InvalidInput("--output", str(args.output), "a new or empty folder, or --resume to go on with that run")
        if args.resume and not saved.exists():
            raise InvalidInput("--resume", str(args.output), "a folder with a run to go on with")
        data = prepare(recipe, args.data or args.recipe.parent, saved.read_bytes() if args.resume else None)
        args.output.mkdir(parents=True, exist_ok=True)
        saved.write_bytes(data.tokenizer_model)
        trainer = Trainer(recipe, data, args.output, device)
        if args.resume:
            trainer.resume()
        try:
            averaged = trainer.run()
        except TrainingDiverged as error:
            print(f"dragoman train: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print(f"stopped and saved; go on with --resume --output {args.output}", file=sys.stderr)
            return 130
        print(f"model: {averaged}\ncurves: {args.output / 'curves.png'}")
        return 0


train = Train()
