"""The deviations that the verification of an export measures for correct models, beside the allowed bounds.

    python bench/proof.py deploy/models/en-de/1 deploy/models/de-en/1 --seeds 8

The weights of bundles are exported again in every precision and verified, as `dragoman export` does with one seed, with
several seeds of states, of random sources and of steps. Every number is the largest of all seeds;
`dragoman_export.verify` describes each. In int8 the scales are calibrated on the built-in sentences, which are also
those compared, unless `--calibration` names a file.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from bench.measure.common import print_header, print_table, progress
from dragoman_export.exporter import VERIFY_ROWS, write_graphs
from dragoman_export.golden_sentences import golden_length
from dragoman_export.new_manifest import CACHE_DTYPE
from dragoman_export.precision import prepare
from dragoman_export.read_back import read_model
from dragoman_export.report import BOUNDS, MAX_DIVERGENCE_FROM_MODEL, MAX_EQUALISATION_ERROR, Report
from dragoman_export.sources import Sources
from dragoman_export.verify import verify_graphs
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.manifest import WEIGHT_BITS, tensor_names

COLUMNS = (
    "part, in units of its row",
    "8-bit number, in steps",
    "log-probability",
    "divergence, mean",
    "divergence at one position",
    "busy: log-probability",
    "busy: divergence at one position",
    "equalisation",
    "divergence from the trained model",
    "ties",
    "partings that are none",
)


def allowed(precision: str) -> list[float | None]:
    """The bounds, in the order of `COLUMNS`."""
    it = BOUNDS[precision]
    of_graphs = [it.part, it.step, it.log_prob_error, it.divergence, it.worst, it.log_prob_error, it.worst]
    return [*of_graphs, MAX_EQUALISATION_ERROR, MAX_DIVERGENCE_FROM_MODEL, None, 0]


def found(report: Report) -> list[float]:
    """The measured deviations, in the order of `COLUMNS`."""
    graphs, busy = report.distance, report.busy
    return [
        report.largest(in_steps=False).error,
        max(0.0, report.largest(in_steps=True).error),
        graphs.log_prob_error,
        graphs.divergence,
        graphs.worst,
        busy.log_prob_error,
        busy.worst,
        report.equalisation_error,
        report.from_model.divergence,
        len(report.ties),
        len(report.mismatches),
    ]


def measured(path: Path, precision: str, calibration: Path | None, seeds: Sequence[int]) -> list[float]:
    """The largest of every number over several seeds.

    Args:
        path: The bundle whose weights are exported.
        precision: The precision of the export.
        calibration: File of source sentences, one a line; None for those that are compared.
        seeds: See `verify_graphs`.
    """
    bundle = Bundle.load(path)
    manifest = bundle.manifest
    model = read_model(path, manifest.architecture)
    read = Sources(bundle.tokenizer, tuple(manifest.languages.all_pairs()), manifest.limits.max_source_tokens)
    sources = [it.ids for it in read.golden(None, None)]
    calibrated = [it.ids for it in read.read(calibration, "calibration")] if calibration else sources
    length = golden_length(manifest)
    prepared = prepare(model, precision, calibrated, length)
    cache = dataclasses.replace(manifest.cache, dtype=CACHE_DTYPE[precision])
    with tempfile.TemporaryDirectory() as name:
        write_graphs(model.config, prepared, Path(name), manifest.alignment)
        tensors = tensor_names(cache.decoder_layers)
        changed = dataclasses.replace(manifest, precision=precision, cache=cache, tensors=tensors, alignments=True)
        graphs = Bundle(Path(name), dataclasses.replace(changed, weight_bits=WEIGHT_BITS), bundle.tokenizer, ())
        rows = []
        for seed in seeds:
            progress(f"{path} {precision} seed {seed}")
            given = (prepared, model, graphs, sources)
            rows.append(found(verify_graphs(*given, max_rows=VERIFY_ROWS, max_length=length, seed=seed)))
    return [max(values) for values in zip(*rows, strict=True)]


def argument_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", type=Path, metavar="BUNDLE", help="folders of bundles")
    parser.add_argument("--precision", nargs="+", choices=list(BOUNDS), default=list(BOUNDS), help="default: all")
    parser.add_argument("--calibration", type=Path, metavar="FILE", help="sentences for the scales of int8, one a line")
    parser.add_argument("--seeds", type=int, default=1, help="how many (default: 1)")
    return parser


def main() -> None:
    """Verify, and print a table for each precision."""
    arguments = argument_parser().parse_args()
    torch.set_num_threads(1)
    print_header("How near right models come to the bounds of the proof", vars(arguments))
    for precision in arguments.precision:
        rows: list[list[object]] = [
            [path, *measured(path, precision, arguments.calibration, range(arguments.seeds))]
            for path in arguments.bundles
        ]
        lines = [[str(row[0]), *(None if it is None else f"{it:.2g}" for it in row[1:])] for row in rows]
        lines.append(["allowed", *(None if it is None else f"{it:.2g}" for it in allowed(precision))])
        print_table([precision, *COLUMNS], lines)


if __name__ == "__main__":
    main()
