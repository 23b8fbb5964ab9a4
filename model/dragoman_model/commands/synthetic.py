"""`dragoman distill` and `dragoman back-translate`."""

from __future__ import annotations

import argparse
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dragoman_service.cli.connection import add_server_argument, connection_of, errors_reported

if TYPE_CHECKING:
    from dragoman_model.data.synthetic import Job, Outcome
    from dragoman_service.client.client import TranslationClient
    from dragoman_service.client.values import Options, Translation

_ATTEMPTS = 5
"""Attempts of each call. A run in bulk waits until a busy server has room."""


class _SyntheticCommand(ABC):
    """The common part of both commands."""

    original_is_target: ClassVar[bool]
    """Whether the text to translate is the target side of the pairs."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument(
            "text", type=Path, metavar="TEXT",
            help="file to translate, one sentence per line; .gz, .bz2 and .xz are decompressed",
        )  # fmt: skip
        parser.add_argument(
            "--output", type=Path, required=True, metavar="FILE",
            help="write the pairs here: source, target, score, separated by tabs; .gz, .bz2 and .xz are compressed",
        )  # fmt: skip
        parser.add_argument("--column", type=int, help="TSV column of TEXT, from 0 (default: whole lines)")
        parser.add_argument("--resume", action="store_true", help="continue an interrupted run")
        add_server_argument(parser)
        parser.add_argument("--model", default="", help="a name from `dragoman models` (default: the first that fits)")
        parser.add_argument("--from", dest="source", default="", metavar="LANGUAGE", help="of TEXT, such as en")
        parser.add_argument("--to", dest="target", default="", metavar="LANGUAGE", help="of the output, such as de")

    @abstractmethod
    def options(self, args: argparse.Namespace) -> Options:
        """The options of the translation calls."""

    def run(self, args: argparse.Namespace) -> int:
        """Make the pairs. Returns the exit status."""
        from dragoman_model.data.synthetic import make_pairs  # noqa: PLC0415
        from dragoman_service.client.client import TranslationClient  # noqa: PLC0415 - imports gRPC
        from dragoman_service.errors import InvalidInput  # noqa: PLC0415

        reference = getattr(args, "reference_column", None)
        for name, column in (("--column", args.column), ("--reference-column", reference)):
            if column is not None and column < 0:
                raise InvalidInput(name, column, "0 or more")
        if reference is not None and args.column is None:
            raise InvalidInput("--column", "nothing", "the column to translate, with --reference-column")
        options = self.options(args)
        try:
            connection = connection_of(args, args.server)
            reported = errors_reported(args.server, connection=connection)
            with reported, TranslationClient(args.server, attempts=_ATTEMPTS, **connection) as client:
                job = self._job(args, reference, options, _max_characters(client, options))
                outcome = make_pairs(job, lambda texts: _translate(client, texts, options), resume=args.resume)
        except KeyboardInterrupt:
            print(f"stopped; continue with --resume --output {args.output}", file=sys.stderr)
            return 130
        _report(outcome, job)
        return 0

    def _job(self, args: argparse.Namespace, reference: int | None, options: Options, max_characters: int) -> Job:
        import dataclasses  # noqa: PLC0415

        from dragoman_model.data.synthetic import Job  # noqa: PLC0415

        return Job(
            text=args.text,
            column=args.column,
            reference_column=reference,
            original_is_target=self.original_is_target,
            max_characters=max_characters,
            output=args.output,
            options=dataclasses.asdict(options),
        )


class DistillCommand(_SyntheticCommand):
    """Distillation (Kim and Rush 2016): translate source text with a server, as training text of a smaller model.

    The translations of a model are more regular than those of people, and easier to learn. Give the text that the
    small model would learn from anyway, such as the output of `dragoman data --output`. Then name the resulting file in
    a recipe, together with the original text.

      dragoman data recipes/en-de.toml --data corpora --output mixture.tsv.gz
      dragoman distill mixture.tsv.gz --column 0 --reference-column 1 --output corpora/distilled.tsv.gz
    """

    help = "translate source text in bulk, as training text of a smaller model"
    original_is_target = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("--beam-size", type=int, default=4, help="hypotheses kept alive (default: 4)")
        parser.add_argument(
            "--reference-column", type=int, metavar="COLUMN",
            help="TSV column of a reference translation: choose the hypothesis with the highest chrF against it "
            "(default: the likeliest one)",
        )  # fmt: skip

    def options(self, args: argparse.Namespace) -> Options:
        """Beam search. All hypotheses are asked for if there are references to compare them with."""
        from dragoman_service.client.values import Options  # noqa: PLC0415 - imports protobuf

        return Options(
            priority="batch",
            model=args.model,
            source_language=args.source,
            target_language=args.target,
            beam_size=args.beam_size,
            num_hypotheses=None if args.reference_column is None else args.beam_size,
        )


class BackTranslateCommand(_SyntheticCommand):
    """Back-translation (Sennrich et al. 2016): make pairs from target text, with a server of the opposite direction.

    For a model from English to German, translate German text with a server that translates German to English. The
    output has the machine-made English as source and the original German as target. Sampling makes more varied sources
    than beam search does. It helps more if there is much text (Edunov et al. 2018).

      dragoman back-translate news.de.gz --server localhost:50052 --output corpora/news.back.tsv.gz
      dragoman back-translate news.de.gz --server localhost:50052 --output news.back.tsv.gz --sample --top-k 10
    """

    help = "translate target text in bulk back to the source language, as training text"
    original_is_target = True

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        super().add_arguments(parser)
        parser.add_argument("--beam-size", type=int, help="hypotheses kept alive (default: 1, fastest)")
        parser.add_argument("--sample", action="store_true", help="draw translations at random")
        parser.add_argument("--top-k", type=int, help="with --sample: number of likeliest tokens to draw from")
        parser.add_argument("--seed", type=int, default=1, help="seed of --sample (default: 1)")

    def options(self, args: argparse.Namespace) -> Options:
        """Greedy search, unless the arguments ask for a beam or for sampling."""
        from dragoman_service.client.values import Options, Sampling  # noqa: PLC0415 - imports protobuf
        from dragoman_service.errors import InvalidInput  # noqa: PLC0415

        if args.sample and args.beam_size:
            raise InvalidInput("--beam-size", args.beam_size, "none with --sample, which does not search")
        if args.top_k is not None and not args.sample:
            raise InvalidInput("--top-k", args.top_k, "none without --sample")
        return Options(
            priority="batch",
            model=args.model,
            source_language=args.source,
            target_language=args.target,
            beam_size=None if args.sample else args.beam_size or 1,
            sampling=Sampling(top_k=args.top_k, seed=args.seed) if args.sample else None,
        )


def _max_characters(client: TranslationClient, options: Options) -> int:
    """The server's limit of characters in one text. Longer texts are left out, as an error would end a long run."""
    fitting = [model for model in client.list_models() if options.model in ("", model.name)]
    # If no model fits, the server reports it in answer to the first call.
    return min((model.max_characters for model in fitting), default=sys.maxsize)


def _translate(client: TranslationClient, texts: Iterable[str], options: Options) -> Iterator[Translation]:
    from tqdm import tqdm  # noqa: PLC0415

    found = client.translate_many(texts, options)
    yield from tqdm(found, unit=" texts", file=sys.stderr, disable=None)


def _report(outcome: Outcome, job: Job) -> None:
    print(f"{job.text}: {outcome}")
    print(f"pairs: {job.output}\nreport: {job.report}")
