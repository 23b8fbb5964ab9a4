"""Makes new golden sentences for a bundle, with its own graphs: `python -m dragoman_export.renew_golden`."""

from __future__ import annotations

import argparse
from pathlib import Path

from dragoman_export.golden_sentences import blank_sentences, golden_length, make_golden
from dragoman_export.sources import Sources
from dragoman_service.bundle.bundle import Bundle, golden_to_json, write_bundle
from dragoman_service.bundle.manifest import GOLDEN
from dragoman_service.runtime.runner import OrtRunner

ROWS = 32
"""Number of rows of the batch in which the sentences are translated."""


def renew_golden(path: Path, sentences: Path | None = None) -> Bundle:
    """Choose and translate golden sentences, and replace those of a bundle.

    Of the other files only the manifest changes: it gets the new hash, and a manifest of an older format becomes one of
    the present format.

    Args:
        path: The folder of the bundle, NAME/VERSION. No server may be using it.
        sentences: File of source sentences to choose from, one per line; None: the built-in ones.

    Raises:
        BundleError: the folder has no valid bundle.
        InvalidInput: there are no sentences for a source language of the model, or a line is not allowed.
    """
    bundle = Bundle.load(path)
    manifest = bundle.manifest
    pairs = tuple(manifest.languages.all_pairs())
    sources = Sources(bundle.tokenizer, pairs, manifest.limits.max_source_tokens)
    blanks = blank_sentences(sources.golden(sentences, None), golden_length(manifest))
    runner = OrtRunner(bundle, max_rows=ROWS, threads=1)
    golden = make_golden(runner, blanks, max_rows=ROWS, manifest=manifest)
    runner.close()
    files: dict[str, bytes | Path] = {name: path / name for name in manifest.files}
    return write_bundle(path, manifest, files | {GOLDEN: golden_to_json(golden)}, force=True)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m dragoman_export.renew_golden", description=__doc__)
    parser.add_argument("bundle", type=Path, help="folder of a bundle that no server is using")
    parser.add_argument("--golden", type=Path, metavar="FILE", help="source sentences, one per line")
    args = parser.parse_args()
    bundle = renew_golden(args.bundle, args.golden)
    print(f"{bundle.path}: {len(bundle.golden)} golden sentences")


if __name__ == "__main__":
    main()
