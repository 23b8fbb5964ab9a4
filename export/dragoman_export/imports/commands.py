"""The command `dragoman import`. Heavy packages are imported when it runs, so that `--help` is fast."""

from __future__ import annotations

import argparse
from pathlib import Path

from dragoman_export.commands import add_bundle_arguments, export_options, made, print_report, write_or_publish

_LONGEST_NOTE = 2_000
"""Most characters of a note that is printed."""


class Import:
    """Convert a checkpoint of another program to a model bundle for `dragoman serve`.

    CHECKPOINT is a folder of Hugging Face Transformers (OPUS-MT and other MarianMT, M2M100, NLLB-200, SMaLL-100,
    mBART-50), a folder of CTranslate2, an .argosmodel, or a Marian .npz or its folder; or hf:OWNER/NAME, which is
    downloaded first (needs the extra `hf`). Nothing of a checkpoint is executed. The graphs are compared with the
    checkpoint in PyTorch, and the bundle is written only if they agree.
    """

    help = "convert a checkpoint of Hugging Face, CTranslate2, Argos or Marian to a model bundle"

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the arguments."""
        add = parser.add_argument
        add("checkpoint", metavar="CHECKPOINT", help="folder, file, or hf:OWNER/NAME")
        add_bundle_arguments(parser)
        add(
            "--source",
            action="append",
            metavar="LANGUAGE",
            help="source language, where the checkpoint does not say it; may be given several times",
        )
        add(
            "--target",
            action="append",
            metavar="LANGUAGE",
            help="target language, where the checkpoint does not say it, or of several those to keep",
        )
        add(
            "--languages",
            type=_languages,
            default=(),
            metavar="LANGUAGE,...",
            help="of M2M100, NLLB-200, SMaLL-100 or mBART-50, the languages to keep, with the pieces that they need: "
            "the tables of the vocabulary become smaller",
        )
        add(
            "--pieces-of",
            action="append",
            type=Path,
            metavar="FILE",
            help="with --languages, much text in these, one sentence per line: keep only pieces that occur in it or in "
            "the built-in sentences (default: all pieces of the scripts of the languages); may be given several times",
        )
        add(
            "--calibration",
            type=Path,
            metavar="FILE",
            help="typical source sentences, one per line, on which the scales of int8 are measured (default: built-in "
            "ones in the source languages; a few hundred of your own are better)",
        )
        add(
            "--tokenizer",
            type=Path,
            metavar="PATH",
            help="SentencePiece model or folder, where the checkpoint has none",
        )
        add(
            "--family",
            choices=("m2m-100", "small-100"),
            help="which of the two a checkpoint is of, where its files do not say it",
        )
        add("--licence", help="licence of the weights, where the checkpoint does not state it")
        add(
            "--positions",
            choices=("own", "marian"),
            default="own",
            help="position vectors of MarianMT folders: as Hugging Face computes them, or as Marian trained them",
        )

    def run(self, args: argparse.Namespace) -> int:
        """Import. Returns the exit status."""
        return write_or_publish(args, lambda output, name, version: _import(args, output, name, version))


def _languages(given: str) -> tuple[str, ...]:
    found = tuple(filter(None, map(str.strip, given.split(","))))
    if not found:
        raise argparse.ArgumentTypeError(f"got {given!r}; allowed: languages, with commas between them")
    return found


def _import(args: argparse.Namespace, output: Path, name: str, version: str) -> int:
    from dragoman_export.imports.download import checkpoint_at  # noqa: PLC0415
    from dragoman_export.imports.imported import ImportOptions  # noqa: PLC0415
    from dragoman_export.imports.importer import import_checkpoint  # noqa: PLC0415
    from dragoman_export.stages import show  # noqa: PLC0415
    from dragoman_service.errors import visible  # noqa: PLC0415

    show()
    how = ImportOptions(
        sources=tuple(args.source or ()),
        targets=tuple(args.target or ()),
        positions=args.positions,
        tokenizer=args.tokenizer,
        licence=args.licence,
        family=args.family,
        languages=args.languages,
        pieces_of=tuple(args.pieces_of or ()),
    )
    path = checkpoint_at(args.checkpoint)
    bundle, report, imported = import_checkpoint(path, output, export_options(args, name, version), how)
    made(bundle)
    manifest = bundle.manifest
    print(f"{imported.origin['family']}, {manifest.languages.summary}; licence: {manifest.licence or 'not stated'}")
    print_report(report, args.precision, "the checkpoint")
    for note in imported.notes:  # they have values of the checkpoint, which may control a terminal
        print(f"note: {visible(note, _LONGEST_NOTE)}")
    return 0
