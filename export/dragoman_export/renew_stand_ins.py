"""Chooses the stand-ins of a bundle anew, with its own graphs: `python -m dragoman_export.renew_stand_ins`."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from dragoman_export.copy_rate import best_stand_ins
from dragoman_export.sources import Sources, sample_pairs
from dragoman_service.bundle.bundle import Bundle, write_bundle
from dragoman_service.runtime.runner import OrtRunner

ROWS = 32
"""Number of rows of the batch in which the sentences are translated."""


def renew_stand_ins(path: Path, sentences: Path | None = None) -> Bundle:
    """Choose stand-ins by how many sentences keep them, and write them into the manifest. No other file changes.

    Args:
        path: The folder of the bundle, NAME/VERSION. No server may be using it.
        sentences: File of source sentences, one per line; None: the built-in ones.

    Raises:
        BundleError: the folder has no valid bundle.
        InvalidInput: there are no sentences for a source language of the model.
    """
    bundle = Bundle.load(path)
    manifest = bundle.manifest
    sources = Sources(bundle.tokenizer, sample_pairs(manifest.languages), manifest.limits.max_source_tokens)
    chosen = sources.read(sentences, "sentences") if sentences else [*sources.golden(None, None), *sources.typical()]
    with closing(OrtRunner(bundle, max_rows=ROWS, threads=1)) as runner:
        stand_ins = best_stand_ins(chosen, runner, manifest, bundle.tokenizer)
    files: dict[str, bytes | Path] = {name: path / name for name in manifest.files}
    return write_bundle(path, replace(manifest, stand_ins=stand_ins), files, force=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m dragoman_export.renew_stand_ins", description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder of a bundle that no server is using")
    parser.add_argument("--sentences", type=Path, metavar="FILE", help="source sentences, one per line")
    args = parser.parse_args()
    bundle = renew_stand_ins(args.bundle, args.sentences)
    print(f"{bundle.path}: {', '.join(bundle.manifest.stand_ins)}")


if __name__ == "__main__":
    main()
