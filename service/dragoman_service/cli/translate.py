"""`dragoman translate`: translate arguments, a file or standard input with a running server."""

from __future__ import annotations

import argparse
import json
import sys
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dragoman_service.cli.connection import CommandFailed, add_server_argument, connection_of, errors_reported
from dragoman_service.cli.files import FileJob
from dragoman_service.cli.lines import BREAKS, Line, Source, arguments, file_lines, one_line
from dragoman_service.cli.output import Output
from dragoman_service.errors import InvalidInput, visible
from dragoman_service.text.markup.documents import format_of_name
from dragoman_service.text.markup.files import FileFormat
from dragoman_service.text.terms import read_terms

if TYPE_CHECKING:
    from dragoman_service.client.client import TranslationClient
    from dragoman_service.client.errors import InvalidRequest
    from dragoman_service.client.values import Options, Term, Translation

_ATTEMPTS = 20
"""Of each call: they last for more than two minutes, in which a server can be restarted."""
_TEXTS_PER_CALL = 64
_HTML_ELEMENTS = {
    "kept": "whose content is not translated",
    "block": "that divides text",
    "inline": "that does not divide text, although it would",
}
"""End of an option's name -> what the elements of HTML that it names are."""
_MOST_PROBLEMS = 100
"""Most lines that are told to have failed."""
_LONGEST_PROBLEM = 1_000
_ESCAPES = {ord(it): f"\\u{ord(it):04x}" for it in BREAKS} | {ord("\n"): "\\n", ord("\r"): "\\r"}


class TranslateCommand:
    """Translate with a running server (see `dragoman serve`).

    Each TEXT, from a word to several paragraphs, is translated as a whole. Without TEXT, every line of --input, or of
    standard input, is translated by itself: one line out for each line in, in the same order. Files and pipes
    are UTF-8.

    A line that cannot be translated, because it is too long or not UTF-8, is an empty line in the output. At the end
    such lines are told, and the exit status is 1. An --output file appears when it is whole; until then, and if the
    command fails, the file of this name stays as it was.

    A file of a format such as HTML, SRT or DOCX, which its name or --format says, is translated as a whole, and keeps
    all that is no text. In a file that is not translated whole, texts that fail stay as they are. One TEXT that is the
    name of such a file stands for it; then the translation is written beside it, as report.de.docx.

      dragoman translate "Good morning." "How are you?"
      dragoman translate --input film.en.srt --output film.de.srt
      dragoman translate report.docx --to de
      dragoman translate --input news.en --output news.de --beam-size 4
      echo "Good morning." | dragoman translate --server example.org:50051 --tls
    """

    help = "translate texts, a file, or standard input with a running server"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        parser.add_argument("texts", nargs="*", metavar="TEXT", help="text to translate")
        parser.add_argument("--input", type=Path, metavar="FILE", help="translate the lines of this file")
        parser.add_argument("--output", type=Path, metavar="FILE", help="write to this file instead of standard output")
        _add_format_arguments(parser)
        parser.add_argument(
            "--json",
            action="store_true",
            help="print a JSON object on a line for each text: its line, from 1, and hypotheses or error",
        )
        parser.add_argument("--fail-fast", action="store_true", help="stop at the first line that cannot be translated")
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
        _add_term_arguments(parser)
        _add_search_arguments(parser)

    def run(self, args: argparse.Namespace) -> int:
        """Translate."""
        from dragoman_service.client.client import TranslationClient  # noqa: PLC0415 - imports gRPC

        if problem := _misused(args) or _resolved_file(args) or _misused_format(args):
            return _usage(problem)
        # A person who types a line waits for its translation. A file is faster in big calls.
        typed = not args.texts and not args.input and sys.stdin is not None and sys.stdin.isatty()
        try:
            with ExitStack() as stack:
                whole = None if args.texts or args.format == "lines" else FileJob(args.input, FileFormat(args.format))
                source = arguments(args.texts) if args.texts or whole else file_lines(args.input, stack)
                options, connection = _options(args, typed=typed), connection_of(args, args.server)
                stack.enter_context(errors_reported(args.server, connection=connection))
                # The first call fails at once if there is no server. The others are retried and survive its restart.
                first = stack.enter_context(TranslationClient(args.server, **connection))
                limits = [model.max_texts for model in first.list_models(deadline=args.deadline)]
                calls: dict[str, Any] = {"texts_per_call": min([_TEXTS_PER_CALL, *limits])}
                if typed:
                    calls = {"texts_per_call": 1, "concurrency": 1}
                client = TranslationClient(args.server, attempts=_ATTEMPTS, **calls, **connection)
                stack.enter_context(client)
                output = stack.enter_context(Output(args.output))
                if whole is not None:
                    return whole.run(client, options, output, args.deadline, fail_fast=args.fail_fast)
                if output.is_file(source.file):
                    return _usage(f"{source.name}: is both input and output; name it with --output instead")
                job = _Job(client, options, source, output, args, at_once=typed)
                return job.run()
        except ValueError as error:  # a number that protobuf cannot hold
            return _usage(str(error))


def _add_term_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", action="append", default=[], metavar="PHRASE", help="not to be translated; may be repeated"
    )
    parser.add_argument(
        "--glossary",
        default="",
        metavar="NAME|FILE.tsv",
        help="phrases and their translations: the name of a glossary of the server, or a file with "
        '"SOURCE<tab>TARGET" on each line, or "SOURCE<tab>TARGET<tab>case" if the case of the source matters',
    )


class _Job:
    """Translates the lines of a source one after the other, and reports those that fail."""

    def __init__(
        self,
        client: TranslationClient,
        options: Options,
        source: Source,
        output: Output,
        args: argparse.Namespace,
        *,
        at_once: bool,
    ) -> None:
        """`at_once`: a person types the lines, and is told of each that fails."""
        self._client, self._options, self._source, self._output, self._args = client, options, source, output, args
        self._at_once = at_once
        self._problems: list[str] = []
        self._failed = 0
        self._cut = 0

    def run(self) -> int:
        """Returns the exit status."""
        steps = self._streamed() if self._args.stream else self._whole()
        bar = None
        if not self._at_once and self._source.name and not self._output.is_terminal and sys.stderr.isatty():
            from tqdm import tqdm  # noqa: PLC0415

            bar = tqdm(total=self._source.total, unit=" lines", desc=Path(self._source.name).name)
        with closing(steps):
            for _ in steps:
                if bar is not None:
                    bar.update()
        if bar is not None:
            bar.close()
        for problem in self._problems:
            print(f"dragoman: {problem}", file=sys.stderr)
        if self._failed > len(self._problems) and not self._at_once:
            print(f"dragoman: and {self._failed - len(self._problems)} more lines", file=sys.stderr)
        if self._cut and not self._args.json:
            print(f"dragoman: {self._cut} translations are incomplete; --json says which, and why", file=sys.stderr)
        if self._failed:
            print(f"dragoman: {self._failed} lines could not be translated: they are empty", file=sys.stderr)
        return 1 if self._failed else 0

    def _whole(self) -> Generator[None, None, None]:
        """Translate in calls of many lines. Yields after each line."""
        waiting: deque[Line] = deque()

        def texts() -> Iterator[str]:
            for line in self._source.lines:
                waiting.append(line)
                if not line.problem:
                    yield line.text

        found = self._client.translate_each(
            texts(), self._options, target_prefixes=self._args.prefix, deadline=self._args.deadline
        )
        with closing(found):
            for outcome in found:
                while waiting[0].problem:
                    self._write(waiting.popleft(), None)
                    yield
                self._write(*self._judged(waiting.popleft(), outcome))
                yield
        while waiting:
            self._write(waiting.popleft(), None)
            yield

    def _judged(self, line: Line, outcome: Translation | InvalidRequest) -> tuple[Line, Translation | None]:
        from dragoman_service.client.values import Translation  # noqa: PLC0415 - imports protobuf

        if isinstance(outcome, Translation):
            return line, outcome
        if outcome.field.startswith("target_prefixes"):
            # A line such as "***", in which there is nothing to translate, is copied, and not begun with the prefix.
            again = next(self._client.translate_each([line.text], self._options, deadline=self._args.deadline))
            if isinstance(again, Translation) and not again.sentences:
                return line, again
        return replace(line, problem=_problem(outcome)), None

    def _streamed(self) -> Generator[None, None, None]:
        """Translate line by line, and write the translations piece by piece. Yields after each line."""
        from dragoman_service.client.errors import InvalidRequest  # noqa: PLC0415 - imports gRPC

        args = self._args
        for line in self._source.lines:
            problem, prefix = line.problem, args.prefix if line.text.strip() else ""
            try:
                if not problem:
                    for item in self._client.translate_stream(
                        line.text, self._options, target_prefix=prefix, deadline=args.deadline
                    ):
                        if isinstance(item, str):
                            self._output.write(self._as_one_line(item, line))
                            self._output.flush()
                        else:
                            self._cut += item.is_cut
            except InvalidRequest as error:
                if error.field not in ("text", "target_prefix"):
                    raise
                problem = _problem(error)
            self._output.write("\n")
            self._output.flush()
            if problem:
                self._report(replace(line, problem=problem))
            yield

    def _write(self, line: Line, translation: Translation | None) -> None:
        if translation is None:
            self._report(line)
        else:
            self._cut += translation.is_cut
        if self._args.json:
            self._output.write(_json(line, translation))
        elif self._args.n_best:
            for hypothesis in translation.hypotheses if translation else ():
                text = _escaped(self._as_one_line(hypothesis.text, line))
                self._output.write(f"{line.number - 1} ||| {text} ||| {hypothesis.score:.4f}\n")
        else:
            self._output.write(f"{self._as_one_line(translation.text, line) if translation else ''}\n")
        self._output.flush()

    def _as_one_line(self, text: str, line: Line) -> str:
        return one_line(text, line.text) if self._source.name else text

    def _report(self, line: Line) -> None:
        """Tell why a line has failed. Raises CommandFailed if the command is to stop."""
        problem = f"{self._source.place(line)}: {visible(line.problem, _LONGEST_PROBLEM)}"
        stop = self._args.fail_fast or not self._source.name
        if stop or self._at_once:
            print(f"dragoman: {problem}", file=sys.stderr)
        if stop:
            raise CommandFailed(1)
        self._failed += 1
        if not self._at_once and len(self._problems) < _MOST_PROBLEMS:
            self._problems.append(problem)


def _add_format_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format",
        choices=("auto", "lines", *(it.value for it in FileFormat)),
        default="auto",
        help="what the input is: lines of text, or a whole file of this format (default: auto, which the suffix of the "
        "file says; lines for .txt and others). TEXT may be html or markdown",
    )
    parser.add_argument(
        "--html-attribute",
        action="append",
        default=[],
        metavar="NAME",
        help="with html: an attribute whose values are translated, such as alt; may be repeated",
    )
    for name, what in _HTML_ELEMENTS.items():
        parser.add_argument(
            f"--html-{name}",
            action="append",
            default=[],
            metavar="NAME",
            help=f"with html: an element {what}; may be repeated",
        )


def _add_search_arguments(parser: argparse.ArgumentParser) -> None:
    search = parser.add_argument_group("search")
    search.add_argument("--beam-size", type=int, help="hypotheses kept; 1 is the fastest (default: the server's)")
    search.add_argument(
        "--n-best",
        type=int,
        metavar="N",
        help='print up to N different translations of each text, as "NUMBER ||| TRANSLATION ||| SCORE". The first '
        r"NUMBER is 0. In TRANSLATION a backslash is \\, a line break is \n, and ||| is \|\|\|",
    )
    search.add_argument("--length-penalty", type=float, help="higher values favour longer translations (default: 1.4)")
    search.add_argument(
        "--patience", type=float, help="end the search later: after so many times its beam has finished"
    )
    search.add_argument(
        "--coverage-penalty", type=float, help="higher values prefer translations that leave out less of the source"
    )
    search.add_argument("--min-length", type=int, help="least tokens of each translated sentence")
    search.add_argument("--max-length", type=int, help="most tokens of each translated sentence")
    search.add_argument("--repetition-penalty", type=float, help="values above 1 make repeated tokens less likely")
    search.add_argument("--no-repeat-ngram-size", type=int, help="no sequence of so many tokens is produced twice")
    search.add_argument(
        "--prefix", default="", help="text that every translation of a line that is not blank must begin with"
    )
    search.add_argument(
        "--prefix-bias",
        type=float,
        metavar="BIAS",
        help="prefer --prefix, and do not insist on it: its odds are multiplied by e ^ BIAS",
    )
    search.add_argument(
        "--suppress",
        action="append",
        default=[],
        metavar="WORD",
        help="word or phrase that no translation must contain; may be repeated",
    )
    search.add_argument(
        "--suppress-token",
        action="append",
        default=[],
        metavar="TOKEN",
        help="token of the model that no translation must contain; may be repeated",
    )
    draw = parser.add_argument_group(
        "sampling", "any of these options samples at random instead of searching for the best translation"
    )
    draw.add_argument("--temperature", type=float, help="above 1: more varied; below 1: closer to greedy")
    draw.add_argument("--top-k", type=int, help="sample from this many of the most probable tokens")
    draw.add_argument(
        "--top-p", type=float, help="sample from the most probable tokens whose probabilities sum to this"
    )
    draw.add_argument("--seed", type=int, help="the same seed gives the same translation")


def _misused(args: argparse.Namespace) -> str:
    """What cannot go together; empty: all can."""
    if args.texts and args.input:
        return "give either TEXT or --input, not both"
    if args.prefix_bias is not None and not args.prefix:
        return "--prefix-bias: only with --prefix"
    if args.stream and (args.n_best or args.json):
        return "--stream shows one translation as text: leave out --n-best and --json"
    return ""


def _resolved_file(args: argparse.Namespace) -> str:
    """Take the name of a file for the file, and its suffix for its format. Returns what is wrong; empty: nothing."""
    if args.format != "auto":
        return ""
    args.format = "lines"
    if len(args.texts) == 1 and (file_format := format_of_name(args.texts[0])):
        path = Path(args.texts[0])
        if path.is_file():
            args.texts, args.input = [], path
            if args.output is None and file_format is not FileFormat.TEXT:
                args.output = path.with_name(f"{path.stem}.{args.target or 'translated'}{path.suffix}")
                if args.output.exists():
                    return f"{args.output}: is there already; name it with --output to replace it"
    if args.input and (found := format_of_name(args.input.name)) and found is not FileFormat.TEXT:
        args.format = found.value
    return ""


def _misused_format(args: argparse.Namespace) -> str:
    """What cannot go together with --format; empty: all can."""
    of_texts = ("html", "markdown")
    for name in ("attribute", *_HTML_ELEMENTS):
        if getattr(args, f"html_{name}") and args.format != "html":
            return f"--html-{name}: only with --format html"
    if args.format != "lines" and args.prefix:
        return f"--prefix: not with --format {args.format}"
    if args.texts and args.format not in ("lines", *of_texts):
        return f"--format {args.format}: only with a file or standard input"
    if args.format != "lines" and not args.texts and (args.stream or args.n_best or args.json):
        return f"--stream, --n-best and --json: not with a file of --format {args.format}"
    return ""


def _options(args: argparse.Namespace, *, typed: bool) -> Options:
    from dragoman_service.client.values import Options, Sampling  # noqa: PLC0415 - imports protobuf

    is_file = args.glossary.endswith(".tsv")
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
        patience=args.patience,
        coverage_penalty=args.coverage_penalty,
        target_prefix_bias=args.prefix_bias,
        suppressed_words=tuple(args.suppress),
        suppressed_tokens=tuple(args.suppress_token),
        sampling=None if sampling == Sampling() else sampling,
        format="plain" if args.format == "lines" else FileFormat(args.format).of_texts.value,
        html_attributes=tuple(args.html_attribute),
        html_kept_elements=tuple(args.html_kept),
        html_block_elements=tuple(args.html_block),
        html_inline_elements=tuple(args.html_inline),
        priority=args.priority or ("interactive" if args.texts or typed else "batch"),
        keep=tuple(args.keep),
        terms=_terms(Path(args.glossary)) if is_file else (),
        glossary="" if is_file else args.glossary,
    )


def _terms(path: Path) -> tuple[Term, ...]:
    """The terms of a glossary. Raises CommandFailed."""
    from dragoman_service.client.values import Term  # noqa: PLC0415 - imports protobuf

    try:
        found = read_terms(path.read_text(encoding="utf-8-sig"), str(path))
    except OSError as error:
        print(f"dragoman: {path}: {error.strerror}", file=sys.stderr)
    except UnicodeDecodeError as error:
        print(f"dragoman: {path}: is not UTF-8: {error}", file=sys.stderr)
    except InvalidInput as error:
        print(f"dragoman: {error}", file=sys.stderr)
    else:
        return tuple(Term(term.source, term.target or "", term.case_sensitive) for term in found)
    raise CommandFailed(2)


def _problem(error: InvalidRequest) -> str:
    """What is wrong with a line, without the name of the field, which the line stands for."""
    rest = str(error).removeprefix(f"{error.field}: ")
    return f"--prefix: {rest}" if error.field.startswith("target_prefix") else rest


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|||", r"\|\|\|").translate(_ESCAPES)


def _json(line: Line, translation: Translation | None) -> str:
    value: dict[str, Any] = {"line": line.number}
    if translation is None:
        value["error"] = line.problem
    else:
        value["hypotheses"] = [
            {"text": it.text, "score": it.score, "finish_reason": it.finish_reason.value}
            for it in translation.hypotheses
        ]
        if translation.warnings:
            value["warnings"] = [
                {"kind": it.kind, "source": it.source, "message": it.message} for it in translation.warnings
            ]
    return json.dumps(value, ensure_ascii=False).translate(_ESCAPES) + "\n"


def _usage(message: str) -> int:
    print(f"dragoman: {message}", file=sys.stderr)
    return 2
