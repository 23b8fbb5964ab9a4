"""Export of a checkpoint to a verified bundle."""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from dragoman_export.golden_sentences import blank_sentences, golden_length, make_golden
from dragoman_export.graphs import build_decoder, build_encoder
from dragoman_export.model_card import write_model_card
from dragoman_export.precision import Prepared, check_precision, prepare
from dragoman_export.report import Report, VerificationError
from dragoman_export.sources import Sources, read_text
from dragoman_export.verify import verify_graphs
from dragoman_model.checkpoint import Checkpoint, load_checkpoint
from dragoman_model.config import ModelConfig
from dragoman_service.bundle.bundle import Bundle, golden_to_json, write_bundle
from dragoman_service.bundle.manifest import (
    DECODER,
    ENCODER,
    FORMAT_VERSION,
    GOLDEN,
    MODEL_CARD,
    TOKENIZER,
    WEIGHTS,
    CacheLayout,
    Limits,
    Manifest,
    Score,
    SpecialIds,
    from_json,
    tensor_names,
)
from dragoman_service.errors import BundleError, InvalidInput
from dragoman_service.runtime.runner import OrtRunner

CACHE_DTYPE = {"fp32": "float32", "fp16": "float16", "int8": "int8"}
"""Precision -> type of the cached keys and values."""
VERIFY_ROWS = 32
"""Rows of the batch in which sentences are translated for comparison."""


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of an export."""

    name: str
    version: str
    description: str = ""
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
    notes: Path | None = None
    """Markdown for the model card; see `write_model_card`."""
    force: bool = False
    """Whether to replace an existing bundle."""


def export_checkpoint(folder: Path, output: Path, options: ExportOptions) -> tuple[Bundle, Report]:
    """Build the graphs, verify them, and write the bundle. If the verification fails, nothing is written to `output`.

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
    if output.exists() and not options.force:
        raise InvalidInput("output", str(output), "a folder that does not exist yet, or --force to replace it")
    checkpoint = load_checkpoint(folder)
    manifest = _manifest(checkpoint, options)
    card = write_model_card(manifest, read_text(options.notes, "notes") if options.notes else "")
    sources = Sources.of(checkpoint, manifest.limits.max_source_tokens)
    candidates = sources.golden(options.golden, options.sentences)
    verified = sources.read(options.sentences, "sentences") if options.sentences else candidates
    calibration = sources.read(options.calibration, "calibration") if options.calibration else verified
    length = golden_length(manifest)
    with tempfile.TemporaryDirectory() as name:
        staging = Path(name)
        prepared = prepare(checkpoint.model, options.precision, [it.ids for it in calibration], length)
        write_graphs(checkpoint.config.model, prepared, staging)
        runner = _open(Bundle(staging, manifest, checkpoint.tokenizer, ()))
        ids = [it.ids for it in verified]
        report = verify_graphs(prepared, checkpoint.model, runner, ids, max_rows=VERIFY_ROWS, max_length=length)
        report.check()
        golden = make_golden(runner, blank_sentences(candidates, length), max_rows=VERIFY_ROWS, manifest=manifest)
        files: dict[str, bytes | Path] = {
            **{file: staging / file for file in (ENCODER, DECODER, WEIGHTS)},
            TOKENIZER: checkpoint.tokenizer_model,
            GOLDEN: golden_to_json(golden),
            MODEL_CARD: card.encode(),
        }
        return write_bundle(output, manifest, files, force=options.force), report


def write_graphs(config: ModelConfig, prepared: Prepared, folder: Path) -> None:
    """Write the weights and both graphs, and run ONNX's checker on the graphs.

    Raises:
        VerificationError: the checker finds a problem.
    """
    (folder / WEIGHTS).write_bytes(prepared.weights.to_bytes())
    graphs = {
        ENCODER: build_encoder(prepared.builder(config, prepared.weights)),
        DECODER: build_decoder(prepared.builder(config, prepared.weights), prepared.alignment),
    }
    for name, graph in graphs.items():
        onnx.save(graph, folder / name)
        try:
            onnx.checker.check_model(str(folder / name))
        except onnx.checker.ValidationError as error:
            raise VerificationError(f"{name} is no valid ONNX graph: {error}") from error


def _open(bundle: Bundle) -> OrtRunner:
    try:
        return OrtRunner(bundle, max_rows=VERIFY_ROWS, threads=1)
    except BundleError as error:
        raise VerificationError(f"the exported graphs cannot be opened: {'; '.join(error.problems)}") from error


def _manifest(checkpoint: Checkpoint, options: ExportOptions) -> Manifest:
    config, tokenizer = checkpoint.config, checkpoint.tokenizer
    model = config.model
    if tokenizer.vocab_size != model.vocab_size:
        allowed = f"the model's vocabulary size, {model.vocab_size}"
        raise InvalidInput("checkpoint.tokenizer", f"{tokenizer.vocab_size} subwords", allowed)
    return Manifest(
        format_version=FORMAT_VERSION,
        name=options.name,
        version=options.version,
        description=options.description,
        architecture=model.to_json(),
        special_ids=SpecialIds(tokenizer.pad_id, tokenizer.begin_id, tokenizer.end_id, tokenizer.unknown_id),
        vocab_size=model.vocab_size,
        limits=Limits(
            max_source_tokens=min(config.max_source_tokens, model.max_positions),
            # The limit of training includes the end of the sentence, that of a translation does not.
            max_target_tokens=max(1, min(config.max_target_tokens, model.max_positions) - 1),
            max_candidates=model.vocab_size - len(model.banned_ids),
        ),
        language_pairs=config.language_pairs,
        precision=options.precision,
        cache=CacheLayout(model.decoder_layers, model.num_heads, model.head_dim, CACHE_DTYPE[options.precision]),
        tensors=tensor_names(model.decoder_layers),
        files={},
        training=config.training,
        scores=_scores(options.scores),
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        producer=f"dragoman {importlib.metadata.version('dragoman')}",
    )


def _scores(path: Path | None) -> tuple[Score, ...]:
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
