"""The command `dragoman export`. Heavy packages are imported when it runs, so that `--help` is fast."""

from __future__ import annotations

import argparse
import re
import shlex
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dragoman_export.exporter import ExportOptions
    from dragoman_export.report import Report
    from dragoman_service.bundle.bundle import Bundle
    from dragoman_service.bundle.manifest import AlignmentHead

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_OF_BUNDLES = {
    "--publish": "publish",
    "--name": "model_name",
    "--version": "model_version",
    "--description": "description",
    "--sentences": "sentences",
    "--golden": "golden",
    "--calibration": "calibration",
    "--scores": "scores",
    "--alignment": "alignment",
    "--notes": "notes",
}
"""Option that only the export of a bundle has -> its attribute."""


class Export:
    """Convert a checkpoint to a model bundle for `dragoman serve`.

    The graphs are first compared with the PyTorch model, on real and on random sentences. The bundle is written only if
    they agree. With --to, a checkpoint or a bundle becomes a folder of CTranslate2 or of Hugging Face Transformers.
    """

    help = "convert a checkpoint to a model bundle, verified against PyTorch, or to a folder of another program"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add = parser.add_argument
        add(
            "checkpoint",
            type=Path,
            metavar="CHECKPOINT",
            help="folder of a checkpoint, from `dragoman train`; with --to, it may be that of a bundle",
        )
        add(
            "--to",
            metavar="PROGRAM",
            help="write a folder of another program to --output: ctranslate2 (--precision fp32, fp16 or int8), or hf, "
            "Hugging Face Transformers (fp32 or fp16)",
        )
        add_bundle_arguments(parser)
        add(
            "--licence",
            default="",
            help="licence of the weights, such as cc-by-4.0 (default: that of a bundle, if known)",
        )
        add(
            "--calibration",
            type=Path,
            metavar="FILE",
            help="required for int8, whose scales are measured on these sentences: a few hundred typical source "
            "sentences of all kinds, one per line",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Export. Returns the exit status."""
        if args.to is not None:
            return _export_elsewhere(args)
        from dragoman_export.precision import check_precision  # noqa: PLC0415

        check_precision(args.precision, args.calibration, _command(args))
        return write_or_publish(args, lambda output, name, version: _export(args, output, name, version))


def _export(args: argparse.Namespace, output: Path, name: str, version: str) -> int:
    from dragoman_export.exporter import export_checkpoint  # noqa: PLC0415
    from dragoman_export.stages import show  # noqa: PLC0415

    show()
    bundle, report = export_checkpoint(args.checkpoint, output, export_options(args, name, version))
    made(bundle)
    print_report(report, args.precision, "the trained checkpoint")
    return 0


def _export_elsewhere(args: argparse.Namespace) -> int:
    from dragoman_export.elsewhere.write import write_elsewhere  # noqa: PLC0415
    from dragoman_service.errors import InvalidInput  # noqa: PLC0415

    for option, attribute in _OF_BUNDLES.items():
        if value := getattr(args, attribute):
            raise InvalidInput(option, str(value), "no such option with --to, which writes no bundle")
    notes = write_elsewhere(
        args.checkpoint, args.to, args.output, args.precision, licence=args.licence, force=args.force
    )
    print(f"{args.output}: {args.to}, {args.precision}")
    for note in notes:
        print(f"note: {note}")
    return 0


def add_bundle_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the commands that write bundles."""
    add = parser.add_argument
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--output", type=Path, metavar="FOLDER/NAME/VERSION", help="folder of the bundle, which is created"
    )
    where.add_argument(
        "--publish",
        metavar="PATH|URL",
        help="model repository to which the complete bundle is added; a server that watches it loads the bundle",
    )
    add("--name", dest="model_name", help="name of the model (default: the last folder but one of --output)")
    add(
        "--version",
        dest="model_version",
        help="version of the model (default: the last folder of --output, or the next one of the repository)",
    )
    add("--description", default="", help="description of the model, one line")
    add(
        "--precision",
        default="fp32",
        help="number format of the bundle: fp32, int8 (for CPUs) or fp16 (for GPUs); default: fp32",
    )
    add(
        "--sentences",
        type=Path,
        metavar="FILE",
        help="source sentences for the verification, one per line (default: those of --golden)",
    )
    add(
        "--golden",
        action="append",
        metavar="[LANGUAGE=]FILE",
        help="source sentences, one per line, from which the golden sentences are chosen: a server translates them "
        "as a check before it serves the bundle. If the model has several source languages, give LANGUAGE=FILE for "
        "each (default: --sentences, else the built-in ones of each language)",
    )
    add("--scores", type=Path, metavar="JSON", help="list of {test_set, metric, value, signature} for the manifest")
    add(
        "--alignment",
        metavar="LAYER:HEAD",
        help="the head of the decoder's cross-attention that aligns words, both numbers from 0 (default: the one that "
        "attends most often to the source token without which a token would be least likely)",
    )
    add("--notes", type=Path, metavar="FILE", help="Markdown for MODEL_CARD.md: data, licences, strengths, limits")
    add("--force", action="store_true", help="replace an existing bundle")


def write_or_publish(args: argparse.Namespace, write: Callable[[Path, str, str], int]) -> int:
    """Write a bundle to --output, or to a temporary folder from which it is published.

    Args:
        args: The arguments of `add_bundle_arguments`.
        write: Is given the folder, the name and the version of the bundle. Returns the exit status.
    """
    with _cleaned_up():
        if args.output:
            output: Path = args.output.resolve()
            return write(args.output, args.model_name or output.parent.name, args.model_version or output.name)
        return _publish(args, write)


@contextmanager
def _cleaned_up() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: temporary files, which may have gigabytes, are removed."""
    if threading.current_thread() is not threading.main_thread():  # handlers belong to the main thread
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _publish(args: argparse.Namespace, write: Callable[[Path, str, str], int]) -> int:
    """Write to a temporary folder, and add the verified bundle to the repository."""
    from dragoman_service.errors import InvalidInput  # noqa: PLC0415
    from dragoman_service.repository.repository import Repository  # noqa: PLC0415

    if not args.model_name:
        raise InvalidInput("--name", "", "the name of a model, with --publish")
    repository = Repository(args.publish, Path())
    version = args.model_version or repository.next_version(args.model_name)
    repository.check_new(args.model_name, version)  # before the work, which takes minutes
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder, args.model_name, version)
        status = write(bundle, args.model_name, version)
        print(f"published: {repository.publish(bundle, args.model_name, version)}")
    return status


def export_options(args: argparse.Namespace, name: str, version: str) -> ExportOptions:
    """The options that the arguments of `add_bundle_arguments`, --calibration and --licence give."""
    from dragoman_export.exporter import ExportOptions  # noqa: PLC0415

    return ExportOptions(
        name=name,
        version=version,
        description=args.description,
        licence=args.licence or "",
        precision=args.precision,
        sentences=args.sentences,
        golden=_golden(args.golden or ()),
        calibration=args.calibration,
        scores=args.scores,
        alignment=_alignment(args.alignment),
        notes=args.notes,
        force=args.force,
    )


def made(bundle: Bundle) -> None:
    """Print what was written."""
    manifest = bundle.manifest
    print(f"{bundle.path}: {manifest.name} version {manifest.version}, {manifest.precision}")
    if manifest.alignment:
        print(f"words are aligned by head {manifest.alignment.head} of decoder layer {manifest.alignment.layer}")


def print_report(report: Report, precision: str, model: str) -> None:
    """Print how near the graphs are to the model. `model` is what it is called."""
    print(
        f"{report.sentences} sentences translated as PyTorch does ({len(report.ties)} ties); "
        f"log-probabilities within {report.distance.log_prob_error:.1e}"
    )
    part, step = report.largest(in_steps=False), report.largest(in_steps=True)
    print(
        f"{len(report.parts)} parts of the graphs within {part.error:.1e} of their exact results"
        + (f", integers within {max(0.0, step.error):.1e} of a step" if step.part else "")
    )
    if precision != "fp32":
        lost = report.from_model
        print(
            f"{precision} against {model}: divergence {lost.divergence:.1e} nats, at worst "
            f"{lost.worst:.1e}; log-probabilities within {lost.log_prob_error:.2f}; the same likeliest token at "
            f"{lost.agreement:.1%} of the positions; {report.same_translations:.1%} of the translations the same"
        )


def _alignment(given: str | None) -> AlignmentHead | None:
    """The head of --alignment. Raises InvalidInput if it is not two numbers."""
    from dragoman_service.bundle.manifest import AlignmentHead  # noqa: PLC0415
    from dragoman_service.errors import InvalidInput  # noqa: PLC0415

    if given is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}:[0-9]{1,4}", given):
        raise InvalidInput("alignment", given, "LAYER:HEAD, two numbers from 0, such as 1:0")
    layer, head = map(int, given.split(":"))
    return AlignmentHead(layer, head)


def _golden(given: Sequence[str]) -> Path | dict[str, Path] | None:
    """The file of --golden, or language -> file, or None if the option is not given.

    Raises:
        InvalidInput: one of several files has no language, or a language is given twice.
    """
    from dragoman_service.errors import InvalidInput  # noqa: PLC0415

    named = [(language, file) if mark else ("", language) for language, mark, file in map(_split, given)]
    if len(named) == 1 and not named[0][0]:
        return Path(named[0][1])
    files: dict[str, Path] = {}
    for language, file in named:
        if not language or language in files:
            raise InvalidInput(
                "golden", f"{language}={file}" if language else file, "LANGUAGE=FILE, each language once"
            )
        files[language] = Path(file)
    return files or None


def _split(option: str) -> tuple[str, str, str]:
    """Split LANGUAGE=FILE. If the part before "=" is no language code, the whole option is a file with "=" in its name.

    Returns:
        (language, "=", file), or (file, "", "").
    """
    language, mark, file = option.partition("=")
    return (language, mark, file) if mark and _LANGUAGE.fullmatch(language) else (option, "", "")


def _command(args: argparse.Namespace) -> str:
    """The command line with `--calibration FILE` added, for an error message."""
    options = {
        "--output": args.output,
        "--publish": args.publish,
        "--name": args.model_name,
        "--version": args.model_version,
        "--description": args.description,
        "--precision": args.precision,
        "--sentences": args.sentences,
        "--scores": args.scores,
        "--alignment": args.alignment,
        "--notes": args.notes,
    }
    words = [str(word) for option, value in options.items() if value for word in (option, value)]
    words += [word for golden in args.golden or () for word in ("--golden", golden)]
    return shlex.join(
        ["dragoman", "export", str(args.checkpoint), *words, *["--force"] * args.force, "--calibration"]
    ) + (" FILE")
