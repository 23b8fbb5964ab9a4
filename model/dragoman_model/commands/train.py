"""`dragoman train`. Heavy packages are imported when it runs, so that `--help` is fast."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path


class TrainCommand:
    """Train a model from a recipe (see recipes/README.md).

    Ctrl-C or SIGTERM saves a checkpoint and stops. --resume continues from there with the same losses as a run without
    an interruption. The result is the folder `averaged` in --output, for `dragoman evaluate` and `dragoman export`.

      dragoman train recipes/numbers.toml --output runs/numbers
      dragoman train recipes/numbers.toml --output runs/numbers --resume
      dragoman train recipes/en-de.toml --data corpora --output runs/en-de --set training.max_steps=1000
      dragoman train mine.toml --init runs/en-de/averaged --output runs/mine

    Under torchrun, several processes share the `training.accumulate` batches of each update, one process per GPU.

      torchrun --no-python --nproc-per-node 2 dragoman train recipes/en-de.toml --output runs/en-de \\
        --set training.accumulate=2 --set training.batch_tokens=1024
    """

    help = "train a model from a recipe"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="the recipe: model, text and training")
        parser.add_argument(
            "--output", type=Path, required=True, metavar="FOLDER", help="folder of this run, such as runs/en-de"
        )
        parser.add_argument(
            "--data", type=Path, metavar="FOLDER", help="base of the recipe's relative paths (default: its own folder)"
        )
        parser.add_argument(
            "--cache", type=Path, metavar="FOLDER",
            help="keep tokenised text here, so that the next start takes seconds (default: $DRAGOMAN_CACHE, or "
            "dragoman/text in $XDG_CACHE_HOME or ~/.cache)",
        )  # fmt: skip
        parser.add_argument(
            "--init", type=Path, metavar="CHECKPOINT",
            help="start from the parameters and the vocabulary of this model, to adapt it to the text of the recipe",
        )  # fmt: skip
        parser.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in --output")
        parser.add_argument(
            "--allow-changes", action="store_true",
            help="with --resume: continue although recipe or text have changed; the run records the changes",
        )  # fmt: skip
        parser.add_argument(
            "--set", action="append", default=[], metavar="TABLE.FIELD=VALUE", dest="overrides",
            help="change one setting of the recipe, such as training.max_steps=1000; may be given several times",
        )  # fmt: skip
        parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
        parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")

    def run(self, args: argparse.Namespace) -> int:
        """Train. Returns the exit status."""
        from dragoman_model.checkpoint import load_checkpoint  # noqa: PLC0415 - imports PyTorch
        from dragoman_model.data.prepare import prepare  # noqa: PLC0415
        from dragoman_model.data.token_cache import default_folder  # noqa: PLC0415
        from dragoman_model.device import choose_device  # noqa: PLC0415
        from dragoman_model.recipe import load_recipe  # noqa: PLC0415
        from dragoman_model.training.memory import keep_freed_memory  # noqa: PLC0415
        from dragoman_model.training.train import Trainer  # noqa: PLC0415
        from dragoman_model.training.workers import join_workers, leave_workers  # noqa: PLC0415
        from dragoman_service.errors import InvalidInput  # noqa: PLC0415

        if args.init and args.resume:
            raise InvalidInput("--init", str(args.init), "none with --resume, which uses the parameters of the run")
        if args.allow_changes and not args.resume:
            raise InvalidInput("--allow-changes", "no --resume", "--allow-changes together with --resume")
        recipe = load_recipe(args.recipe, args.overrides)
        keep_freed_memory()
        workers, device = join_workers(choose_device(args.device, args.threads))
        level = logging.INFO if workers.is_first else logging.WARNING
        logging.basicConfig(level=level, format="%(message)s", stream=sys.stderr)
        saved = args.output / "tokenizer.model"
        if workers.is_first:
            _check_output(args.output, saved, args.resume)
        learned = load_checkpoint(args.init) if args.init else None
        vocabulary = learned.tokenizer_model if learned else saved.read_bytes() if args.resume else None
        data = prepare(recipe, args.data or args.recipe.parent, vocabulary, args.cache or default_folder())
        trainer = Trainer(recipe, data, args.output, device, workers)
        try:
            if args.resume:
                trainer.resume(args.allow_changes)
            elif learned:
                trainer.start_from(learned)
            if workers.is_first and not args.resume:
                saved.parent.mkdir(parents=True, exist_ok=True)
                saved.write_bytes(data.tokenizer_model)
            averaged = trainer.run()
        except OSError as error:
            print(f"dragoman train: {error}; checkpoints written before are intact", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            if workers.is_first:
                print(f"stopped and saved; continue with --resume --output {args.output}", file=sys.stderr)
            return 130
        finally:
            leave_workers(workers)
        if averaged:
            print(f"model: {averaged}\ncurves: {args.output / 'curves.png'}")
        return 0


def _check_output(output: Path, saved: Path, resume: bool) -> None:
    """Raise InvalidInput unless --output has a run to resume, or, without --resume, is new or empty."""
    from dragoman_service.errors import InvalidInput  # noqa: PLC0415

    if resume and not saved.is_file():
        raise InvalidInput("--resume", str(output), "a folder with a run to continue")
    if not resume and output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise InvalidInput("--output", str(output), "a new or empty folder, or --resume to continue that run")
