"""Export of a checkpoint to a verified bundle."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import onnx

from dragoman_export.alignment import check_head, choose_head
from dragoman_export.copy_rate import best_stand_ins
from dragoman_export.golden_sentences import blank_sentences, golden_length, make_golden
from dragoman_export.graphs import build_decoder, build_encoder
from dragoman_export.model_card import write_model_card
from dragoman_export.new_manifest import Facts, make_manifest
from dragoman_export.output import check_folder
from dragoman_export.precision import Prepared, check_precision, prepare
from dragoman_export.report import Report, VerificationError
from dragoman_export.shelf import FileShelf, Shelf, shelve
from dragoman_export.sources import Sources, read_text, sample_pairs
from dragoman_export.stages import stage
from dragoman_export.verify import open_runner, verify_graphs
from dragoman_model.checkpoint import load_checkpoint
from dragoman_model.config import ModelConfig
from dragoman_model.transformer import Transformer
from dragoman_service.bundle.bundle import MANIFEST, Bundle, golden_to_json, write_bundle
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import (
    DECODER,
    ENCODER,
    GOLDEN,
    MODEL_CARD,
    TOKENIZER,
    WEIGHTS,
    AlignmentHead,
    Manifest,
    Score,
)
from dragoman_service.bundle.manifest_reader import read_manifest
from dragoman_service.bundle.tokenizers.loading import load_tokenizer
from dragoman_service.bundle.tokenizers.protocol import Tokenizer
from dragoman_service.bundle.typed_json import from_json
from dragoman_service.errors import BundleError, InvalidInput

VERIFY_ROWS = 32
"""Rows of the batch in which sentences are translated for comparison."""
MOST_VERIFIED = 240
"""Sentences that are translated for comparison."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of an export."""

    name: str
    version: str
    description: str = ""
    licence: str = ""
    """Of the weights; empty: not known. An import has that of its checkpoint."""
    precision: str = "fp32"
    sentences: Path | None = None
    """File of source sentences for the verification, one per line; None: those of `golden`."""
    golden: Path | Mapping[str, Path] | None = None
    """File of source sentences to choose golden sentences from, one per line, or source language -> such a file; see
    `sources.Sources.golden`."""
    calibration: Path | None = None
    """File of source sentences for the scales of int8, one per line. Int8 requires it."""
    scores: Path | None = None
    """JSON list of the fields of `manifest.Score`."""
    alignment: AlignmentHead | None = None
    """The head that aligns words; None: the one that `alignment.choose_head` chooses."""
    notes: Path | None = None
    """Markdown for the model card; see `write_model_card`."""
    force: bool = False
    """Whether to replace an existing bundle."""


@dataclass(frozen=True, slots=True)
class Exportable:
    """A model that can become a bundle, wherever it comes from."""

    model: Transformer
    """In evaluation mode, on the CPU."""
    facts: Facts
    tokenizer_files: Mapping[str, bytes | Path]
    """Name of a file of the tokenizer, as `facts.tokenizer` has it -> its contents, or a file to copy."""
    shelf: Shelf = field(default_factory=Shelf)
    """Where the tensors of the model are kept, and those of its copies."""

    def tokenizer(self) -> Tokenizer:
        """The tokenizer as the bundle will have it. Raises InvalidInput if its files are damaged or do not fit."""
        return load_tokenizer(self.facts.tokenizer, lambda name: contents_of(self.tokenizer_files[name]))


def contents_of(given: bytes | Path) -> bytes:
    """The contents of a file of a bundle, which are given themselves or as a file to copy."""
    return given if isinstance(given, bytes) else given.read_bytes()


def export_checkpoint(folder: Path, output: Path, options: ExportOptions) -> tuple[Bundle, Report]:
    """Export a checkpoint of our own; see `export_model`.

    Args:
        folder: The folder of the checkpoint.
        output: The folder of the bundle, NAME/VERSION.
        options: The options.

    Raises:
        InvalidInput: an argument is not allowed.
        VerificationError: the graphs disagree with the model.
        BundleError: the bundle would not be valid.
    """
    command = f"dragoman export {folder} --output {output} --precision {options.precision} --calibration FILE"
    check_precision(options.precision, options.calibration, command)
    check_output(output, options)
    checkpoint = load_checkpoint(folder)
    config, words = checkpoint.config, checkpoint.tokenizer.vocab_size
    if words != config.model.vocab_size:
        allowed = f"the model's vocabulary size, {config.model.vocab_size}"
        raise InvalidInput("checkpoint.tokenizer", f"{words} subwords", allowed)
    facts = Facts(
        name=options.name,
        version=options.version,
        description=options.description,
        languages=Languages(config.language_pairs),
        max_source_tokens=config.max_source_tokens,
        max_target_tokens=config.max_target_tokens - 1,  # that of training includes the end of the sentence
        licence=options.licence,
        training=config.training,
        scores=read_scores(options.scores),
    )
    files = {TOKENIZER: checkpoint.tokenizer_model}
    with FileShelf() as shelf:
        shelve(checkpoint.model, shelf)
        return export_model(Exportable(checkpoint.model, facts, files, shelf), output, options)


def export_model(exportable: Exportable, output: Path, options: ExportOptions) -> tuple[Bundle, Report]:
    """Build the graphs, verify them, and write the bundle. If the verification fails, nothing is written to `output`.

    Raises as `export_checkpoint` does.
    """
    model, tokenizer, shelf = exportable.model, exportable.tokenizer(), exportable.shelf
    if options.alignment:
        check_head(options.alignment, model.config)
    manifest = make_manifest(model.config, options.precision, exportable.facts)
    _check_manifest(output, manifest, exportable.tokenizer_files)
    card = write_model_card(manifest, read_text(options.notes, "notes") if options.notes else "")
    sources = Sources(tokenizer, sample_pairs(manifest.languages), manifest.limits.max_source_tokens)
    candidates = sources.golden(options.golden, options.sentences)
    verified = (sources.read(options.sentences, "sentences") if options.sentences else candidates)[:MOST_VERIFIED]
    calibration = sources.read(options.calibration, "calibration") if options.calibration else sources.typical()
    length = golden_length(manifest)
    with stage("choice of the head that aligns", shelf):
        alignment = options.alignment or choose_head(model, [*candidates, *calibration], tokenizer, length)
    manifest = replace(manifest, alignment=alignment)
    with tempfile.TemporaryDirectory() as name:
        staging = Path(name)
        ids, forced = ([getattr(it, part) for it in calibration] for part in ("ids", "forced"))
        prepared = prepare(model, options.precision, ids, length, forced, shelf)
        with stage("writing of weights and graphs", shelf):
            write_graphs(model.config, prepared, staging, alignment)
        bundle = Bundle(staging, manifest, tokenizer, ())
        ids, forced = ([getattr(it, part) for it in verified] for part in ("ids", "forced"))
        report = verify_graphs(prepared, model, bundle, ids, max_rows=VERIFY_ROWS, max_length=length, forced=forced)
        report.check()
        blanks = blank_sentences(candidates, length)
        with stage("choice of golden sentences", shelf), closing(open_runner(bundle, VERIFY_ROWS)) as runner:
            golden = make_golden(runner, blanks, max_rows=VERIFY_ROWS, manifest=manifest)
            manifest = replace(
                manifest, stand_ins=best_stand_ins([*candidates, *calibration], runner, manifest, tokenizer)
            )
        files: dict[str, bytes | Path] = {
            **{file: staging / file for file in (ENCODER, DECODER, WEIGHTS)},
            **exportable.tokenizer_files,
            GOLDEN: golden_to_json(golden),
            MODEL_CARD: card.encode(),
        }
        return write_bundle(output, manifest, files, force=options.force), report


def _check_manifest(output: Path, manifest: Manifest, tokenizer_files: Iterable[str]) -> None:
    """Raise BundleError for a manifest that is not valid: a wrong name is told before the work, which takes minutes."""
    files = dict.fromkeys((ENCODER, DECODER, WEIGHTS, GOLDEN, MODEL_CARD, *tokenizer_files), "0" * 64)
    _, problems = read_manifest(replace(manifest, files=files).to_json())
    if problems:
        raise BundleError(output, problems)


def check_output(output: Path, options: ExportOptions) -> None:
    """Raise InvalidInput for a folder that cannot be made, or exists and may not be replaced."""
    check_folder(output, MANIFEST, force=options.force)


def write_graphs(config: ModelConfig, prepared: Prepared, folder: Path, alignment: AlignmentHead | None = None) -> None:
    """Write the weights and both graphs, and run ONNX's checker on the graphs. For `alignment`, see `build_decoder`.

    Raises:
        VerificationError: the checker finds a problem.
    """
    prepared.weights.write(folder / WEIGHTS)
    graphs = {
        ENCODER: build_encoder(prepared.builder(config, prepared.weights)),
        DECODER: build_decoder(prepared.builder(config, prepared.weights), alignment),
    }
    for name, graph in graphs.items():
        onnx.save(graph, folder / name)
        try:
            onnx.checker.check_model(str(folder / name))
        except onnx.checker.ValidationError as error:
            raise VerificationError(f"{name} is no valid ONNX graph: {error}") from error


def read_scores(path: Path | None) -> tuple[Score, ...]:
    if path is None:
        return ()
    problems: list[str] = []
    try:
        scores: tuple[Score, ...] = from_json(
            tuple[Score, ...], json.loads(read_text(path, "scores")), "scores", problems
        )
    except ValueError as error:
        problems = [str(error)]
    if problems:
        raise InvalidInput("scores", str(path), "a JSON list of scores (" + "; ".join(problems) + ")")
    return scores
