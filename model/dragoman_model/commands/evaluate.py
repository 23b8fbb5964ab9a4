"""`dragoman evaluate`. Heavy packages are imported when it runs, so that `--help` is fast."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from dragoman_service.cli.connection import add_connection_arguments, connection_of, errors_reported

if TYPE_CHECKING:
    from dragoman_model.evaluation.systems import System
    from dragoman_service.cli.connection import ConnectionSettings


class EvaluateCommand:
    """Translate test sets and score the translations with sacreBLEU (BLEU and chrF, with their signatures).

    A test set is two files whose lines correspond. Give --source and --target several times for several sets.

      dragoman evaluate --checkpoint runs/en-de/averaged --source test.en --target test.de
      dragoman evaluate --bundle deploy/models/en-de/1 --source test.en --target test.de --output test.out
      dragoman evaluate --server localhost:50051 --source a.en --target a.de --source b.en --target b.de
    """

    help = "score a checkpoint, a bundle or a running server on test sets"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        system = parser.add_mutually_exclusive_group(required=True)
        system.add_argument("--checkpoint", type=Path, metavar="FOLDER", help="written by `dragoman train`")
        system.add_argument("--bundle", type=Path, metavar="FOLDER", help="written by `dragoman export`")
        system.add_argument("--server", metavar="HOST:PORT", help="started by `dragoman serve`")
        for name, required, text in (
            ("--source", True, "text to translate, one sentence per line"),
            ("--target", True, "reference translation, with the same lines as --source"),
            ("--output", False, "write the translations here; give it once for each --source"),
        ):
            parser.add_argument(
                name, type=Path, action="append", default=[], required=required, metavar="FILE", help=text
            )
        parser.add_argument(
            "--json", type=Path, metavar="FILE", help="write the scores here, for `dragoman export --scores`"
        )
        search = parser.add_argument_group("search")
        search.add_argument("--beam-size", type=int, default=4, help="1 is greedy search (default: 4)")
        search.add_argument("--length-penalty", type=float, default=1.4, help="above 0 favours length (default: 1.4)")
        scores = parser.add_argument_group("scores")
        scores.add_argument("--lowercase", action="store_true", help="ignore upper and lower case")
        scores.add_argument("--tokenize", default="13a", help="sacreBLEU's tokenizer for BLEU (default: 13a)")
        languages = parser.add_argument_group("languages", "needed if the model has several language pairs")
        languages.add_argument("--from", dest="source_language", default="", metavar="LANGUAGE", help="such as en")
        languages.add_argument("--to", dest="target_language", default="", metavar="LANGUAGE", help="such as de")
        server = parser.add_argument_group("with --server")
        add_connection_arguments(parser)
        server.add_argument("--model", default="", help="a name from `dragoman models` (default: the first that fits)")
        local = parser.add_argument_group("with --checkpoint or --bundle")
        local.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
        local.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: all cores)")

    def run(self, args: argparse.Namespace) -> int:
        """Evaluate the test sets and print the scores. Returns the exit status."""
        from dragoman_model.evaluation.evaluate import evaluate, read_test_sets, table, write_lines  # noqa: PLC0415
        from dragoman_service.errors import InvalidInput  # noqa: PLC0415

        test_sets = read_test_sets(args.source, args.target)
        if args.output and len(args.output) != len(test_sets):
            allowed = f"none, or {len(test_sets)}, one for each --source"
            raise InvalidInput("--output", f"{len(args.output)} files", allowed)
        evaluations = []
        connection = connection_of(args, args.server) if args.server else None
        with errors_reported(args.server, connection=connection), _system(args, connection) as system:
            for number, test_set in enumerate(test_sets):
                evaluation = evaluate(system, test_set, lowercase=args.lowercase, tokenize=args.tokenize)
                if args.output:
                    write_lines(args.output[number], evaluation.translations)
                evaluations.append(evaluation)
        if args.json:
            scores = [score for evaluation in evaluations for score in evaluation.to_json()]
            write_lines(args.json, json.dumps(scores, indent=2, ensure_ascii=False).splitlines())
        print(table(evaluations))
        return 0


def _system(args: argparse.Namespace, connection: ConnectionSettings | None) -> System:
    """The system that the arguments select. `connection` is for a server."""
    from dragoman_model.evaluation import systems  # noqa: PLC0415
    from dragoman_service.client.values import Options  # noqa: PLC0415
    from dragoman_service.engine.request import DecodingOptions  # noqa: PLC0415

    search = {"beam_size": args.beam_size, "length_penalty": args.length_penalty}
    local = DecodingOptions(**search, stop_repetition=True)
    languages = (args.source_language, args.target_language)
    if connection:
        source, target = languages
        options = Options(model=args.model, source_language=source, target_language=target, priority="batch", **search)
        return systems.ServerSystem(args.server, options, tls=connection["tls"], token=connection["token"])
    if args.bundle:
        threads = args.threads or 0
        return systems.load_bundle_system(args.bundle, local, device=args.device, threads=threads, languages=languages)
    from dragoman_model.device import choose_device  # noqa: PLC0415 - imports PyTorch

    device = choose_device(args.device, args.threads)
    return systems.load_checkpoint_system(args.checkpoint, local, device=str(device), languages=languages)
