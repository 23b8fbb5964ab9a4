"""`dragoman data`."""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dragoman_model.data.corpus import Pair


class DataCommand:
    """Clean and mix the text of a recipe as training does, and report how many pairs are kept and dropped, and why.

    A pair is dropped if one of its sides is in the validation text or in a file of data.held_out. --output writes one
    shuffled epoch of the mixture: source, target and name of the corpus, separated by tabs.

      dragoman data recipes/en-de.toml --data corpora
      dragoman data recipes/en-de.toml --data corpora --set data.augmentation.swapped=0 --output mixture.tsv.gz
    """

    help = "clean and mix the text of a recipe, and report on it"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="the recipe, which names the text")
        parser.add_argument(
            "--data", type=Path, metavar="FOLDER", help="base of the recipe's relative paths (default: its own folder)"
        )
        parser.add_argument(
            "--output", type=Path, metavar="FILE", help="write the mixture here; .gz, .bz2 and .xz are compressed"
        )
        parser.add_argument(
            "--set", action="append", default=[], metavar="TABLE.FIELD=VALUE", dest="overrides",
            help="change one setting of the recipe; may be given several times",
        )  # fmt: skip

    def run(self, args: argparse.Namespace) -> int:
        """Print the report. Returns the exit status."""
        from dragoman_model.data.mixture import one_epoch, read_parts, table  # noqa: PLC0415
        from dragoman_model.data.pair_store import StoredPairs  # noqa: PLC0415
        from dragoman_model.recipe import load_recipe  # noqa: PLC0415
        from dragoman_service.errors import InvalidInput  # noqa: PLC0415

        recipe = load_recipe(args.recipe, args.overrides)
        if args.output and args.output.exists():
            raise InvalidInput("--output", str(args.output), "a file that does not exist yet")
        parts = []
        with tempfile.TemporaryDirectory(prefix="dragoman-") as folder:
            numbers = itertools.count()
            stores = lambda: StoredPairs(Path(folder) / f"pairs-{next(numbers)}")  # noqa: E731
            for part in read_parts(recipe, args.data or args.recipe.parent, stores):
                print(part.report, file=sys.stderr)
                parts.append(part)
            print(table(parts))
            if args.output:
                try:
                    _write(args.output, one_epoch(parts, recipe.training.seed))
                except OSError as error:
                    args.output.unlink(missing_ok=True)
                    raise InvalidInput("--output", str(args.output), f"a file that can be written ({error})") from error
        return 0


def _write(path: Path, pairs: Iterable[tuple[Pair, str]]) -> None:
    from dragoman_model.data.corpus import OPENERS  # noqa: PLC0415

    opener = OPENERS.get(path.suffix, open)
    with opener(path, "wt", encoding="utf-8", newline="\n") as file:  # type: ignore[operator]
        for (source, target), corpus in pairs:
            file.write("\t".join(" ".join(text.split()) for text in (source, target, corpus)) + "\n")
