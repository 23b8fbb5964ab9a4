"""`dragoman translate`: translate arguments, a file or standard input with a running server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO

from dragoman_service.cli.connection import CommandFailed, add_server_argument, connection_of, errors_reported

if TYPE_CHECKING:
    from dragoman_service.client.client import TranslationClient
    from dragoman_service.client.values import Options

_ATTEMPTS = 5


class TranslateCommand:
    """Translate with a running server (see `dragoman serve`).

    Each TEXT, from a word to several paragraphs, is translated as a whole. Without TEXT, every line of --input, or of
    standard input, is translated by itself: one line out for each line in, in the same order.

      dragoman translate "Good morning." "How are you?"
      dragoman translate --input news.en --output news.de --beam-size 4
      echo "Good morning." | dragoman translate --server example.org:50051 --tls
    """

    help = "translate texts, a file, or standard input with a running server"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("texts", nargs="*", metavar="TEXT", help="text to translate")
        parser.add_argument("--input", type=Path, metavar="FILE", help="translate the lines of this file")
        parser.add_argument("--output", type=Path, metavar="FILE", help="write to this file instead of standard output")
        add_server_argument(parser)
        parser.add_argument(
            "--model", default="", help="a name from `dragoman models` (default: the first for the languages)"
        )
        parser.add_argument(
            "--from",
            dest="source",
            default="auto",
            metavar="LANGUAGE",
            help="source language, such as en (default: auto, which detects it in each text if several are possible)",
        )
        parser.add_argument("--to", dest="target", default="", metavar="LANGUAGE", help="target language, such as de")
        parser.add_argument(
            "--pivot",
            action="store_true",
            help="translate with two models, through a third language, if no model has the pair",
        )
        parser.add_argument(
            "--stream", action="store_true", help="print each translation piece by piece while it is decoded"
        )
        parser.add_argument(
            "--priority",
            choices=("interactive", "batch"),
            help="priority when the server is overloaded (default: batch for files and pipes, else interactive)",
        )
        parser.add_argument("--deadline", type=float, metavar="SECONDS", help="time limit for all texts together")
        search = parser.add_argument_group("search")
        search.add_argument("--beam-size", type=int, help="hypotheses kept; 1 is the fastest (default: the server's)")
        search.add_argument(
            "--n-best", type=int, metavar="N", help='print N translations, as "NUMBER ||| TRANSLATION ||| SCORE"'
        )
        search.add_argument(
            "--length-penalty", type=float, help="higher values favour longer translations (default: 1.4)"
        )
        search.add_argument("--min-length", type=int, help="least tokens of each translated sentence")
        search.add_argument("--max-length", type=int, help="most tokens of each translated sentence")
        search.add_argument("--repetition-penalty", type=float, help="values above 1 make repeated tokens less likely")
        search.add_argument("--no-repeat-ngram-size", type=int, help="no sequence of so many tokens is produced twice")
        search.add_argument("--prefix", default="", help="text that every translation must begin with")
        draw = parser.add_argument_group(
            "sampling", "any of these options samples at random instead of searching for the best translation"
        )
        draw.add_argument("--temperature", type=float, help="above 1: more varied; below 1: closer to greedy")
        draw.add_argument("--top-k", type=int, help="sample from this many of the most probable tokens")
        draw.add_argument(
            "--top-p", type=float, help="sample from the most probable tokens whose probabilities sum to this"
        )
        draw.add_argument("--seed", type=int, help="the same seed gives the same translation")

    def run(self, args: argparse.Namespace) -> int:
        """Translate."""
        from dragoman_service.client.client import TranslationClient  # noqa: PLC0415 - imports gRPC

        if args.texts and args.input:
            return _usage("give either TEXT or --input, not both")
        if args.stream and args.n_best:
            return _usage("--stream shows one translation: leave out --n-best")
        # A person who types a line waits for its translation. A file is faster in big calls.
        typed = not args.texts and not args.input and sys.stdin.isatty()
        calls: dict[str, Any] = {"texts_per_call": 1, "concurrency": 1} if typed else {}
        try:
            with ExitStack() as stack:
                lines = [] if args.texts else _lines(args.input, stack)
                output = _output(args.output, stack)
                texts = args.texts or _progress(lines, args.input, output)
                connection = connection_of(args, args.server)
                stack.enter_context(errors_reported(args.server, connection=connection))
                # The first call fails at once if there is no server. The others are retried and survive its restart.
                first = stack.enter_context(TranslationClient(args.server, **connection))
                first.list_models(deadline=args.deadline)
                client = TranslationClient(args.server, attempts=_ATTEMPTS, **calls, **connection)
                stack.enter_context(client)
                act = _stream if args.stream else _translate
                act(client, texts, _options(args), args, output)
        except ValueError as error:  # a number that protobuf cannot hold, or a file that is not UTF-8
            return _usage(str(error))
        return 0


def _translate(
    client: TranslationClient, texts: Iterable[str], options: Options, args: argparse.Namespace, output: TextIO
) -> None:
    found = client.translate_many(texts, options, target_prefixes=args.prefix, deadline=args.deadline)
    for number, translation in enumerate(found):
        if args.n_best:
            for hypothesis in translation.hypotheses:
                print(f"{number} ||| {hypothesis.text} ||| {hypothesis.score:.4f}", file=output)
        else:
            print(translation.text, file=output)
        if output is sys.stdout:
            output.flush()


def _stream(
    client: TranslationClient, texts: Iterable[str], options: Options, args: argparse.Namespace, output: TextIO
) -> None:
    for text in texts:
        for item in client.translate_stream(text, options, target_prefix=args.prefix, deadline=args.deadline):
            if isinstance(item, str):
                print(item, end="", flush=True, file=output)
        print(flush=True, file=output)


def _options(args: argparse.Namespace) -> Options:
    from dragoman_service.client.values import Options, Sampling  # noqa: PLC0415 - imports protobuf

    sampling = Sampling(temperature=args.temperature, top_k=args.top_k, top_p=args.top_p, seed=args.seed)
    return Options(
        model=args.model,
        source_language="" if args.source == "auto" else args.source,
        target_language=args.target,
        allow_pivot=args.pivot,
        beam_size=args.beam_size,
        num_hypotheses=args.n_best,
        length_penalty=args.length_penalty,
        min_length=args.min_length,
        max_length=args.max_length,
        repetition_penalty=args.repetition_penalty,
        no_repeat_ngram_size=args.no_repeat_ngram_size,
        sampling=None if sampling == Sampling() else sampling,
        priority=args.priority or ("batch" if args.input or not (args.texts or sys.stdin.isatty()) else "interactive"),
    )


def _lines(path: Path | None, stack: ExitStack) -> Iterator[str]:
    # newline="\n": only a line feed ends a line. A carriage return before it is part of the line and is kept.
    file = sys.stdin if path is None else stack.enter_context(_opened(path, "r"))
    return (line.removesuffix("\n") for line in file)


def _output(path: Path | None, stack: ExitStack) -> TextIO:
    return sys.stdout if path is None else stack.enter_context(_opened(path, "w"))


def _opened(path: Path, mode: Literal["r", "w"]) -> TextIO:
    try:
        return path.open(mode, encoding="utf-8", newline="\n")
    except OSError as error:
        print(f"dragoman: {path}: {error.strerror}", file=sys.stderr)
        raise CommandFailed(1) from None


def _progress(lines: Iterable[str], path: Path | None, output: TextIO) -> Iterable[str]:
    """The lines, with a progress bar if standard error is a terminal and shows nothing else."""
    typed = path is None and sys.stdin.isatty()
    if typed or output.isatty() or not sys.stderr.isatty():
        return lines
    from tqdm import tqdm  # noqa: PLC0415

    if path is None:
        return tqdm(lines, unit=" lines")
    with path.open("rb") as file:
        total = sum(1 for _ in file)
    return tqdm(lines, total=total, unit=" lines", desc=path.name)


def _usage(message: str) -> int:
    print(f"dragoman: {message}", file=sys.stderr)
    return 2
