"""From a checkpoint of another program to a verified bundle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dragoman_export.exporter import Exportable, ExportOptions, check_output, export_model, read_scores
from dragoman_export.imports.imported import Imported, ImportOptions
from dragoman_export.imports.read import read_checkpoint
from dragoman_export.imports.tokenizers import BundleTokenizer
from dragoman_export.new_manifest import Facts
from dragoman_export.report import Report
from dragoman_export.sentences import built_in_language
from dragoman_export.shelf import FileShelf
from dragoman_export.stages import stage
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import MAX_BEAM_SIZE, MAX_LENGTH_PENALTY, PRECISIONS, Generation, Origin
from dragoman_service.errors import InvalidInput


def import_checkpoint(
    path: Path, output: Path, options: ExportOptions, how: ImportOptions
) -> tuple[Bundle, Report, Imported]:
    """Read a checkpoint, build its graphs, verify them and write the bundle. If something fails, nothing is written.

    Args:
        path: A folder or file; see `read.read_checkpoint`.
        output: The folder of the bundle, NAME/VERSION.
        options: As for an export. int8 is calibrated on built-in sentences if there is no `calibration`.
        how: What the checkpoint may not say about itself.

    Raises:
        InvalidInput: an argument is not allowed, or the checkpoint is damaged or not supported.
        VerificationError: the graphs disagree with the model.
        BundleError: the bundle would not be valid.
    """
    if options.precision not in PRECISIONS:
        raise InvalidInput("precision", options.precision, ", ".join(PRECISIONS))
    check_output(output, options)
    imported = read_checkpoint(path, how)
    tokenizer = BundleTokenizer(imported)
    languages = tokenizer.languages
    _check_calibration(languages, options)
    generation, notes = _generation(imported)
    limits = imported.generation
    facts = Facts(
        name=options.name,
        version=options.version,
        description=options.description,
        languages=languages,
        max_source_tokens=limits.max_source_tokens,
        max_target_tokens=limits.max_target_tokens - 1 - tokenizer.load().target_overhead,
        tokenizer=tokenizer.spec,
        generation=generation,
        licence=imported.licence or "",
        origin=Origin(str(imported.origin["family"]), dict(imported.origin["files"]), (*imported.notes, *notes)),
        scores=read_scores(options.scores),
    )
    imported = replace(imported, notes=(*imported.notes, *notes))
    with FileShelf() as shelf:
        with stage("reading of the weights", shelf):
            model = imported.model(shelf)
        return *export_model(Exportable(model, facts, tokenizer.files, shelf), output, options), imported


def _generation(imported: Imported) -> tuple[Generation, tuple[str, ...]]:
    """The defaults of the search, as far as a server can follow them, and notes on what it cannot."""
    given = imported.generation
    beam, penalty = min(given.beam_size, MAX_BEAM_SIZE), min(given.length_penalty, MAX_LENGTH_PENALTY)
    notes = []
    if (beam, penalty) != (given.beam_size, given.length_penalty):
        notes.append(
            f"The checkpoint asks for beam size {given.beam_size} and length penalty {given.length_penalty:g}; "
            f"the default of the bundle is {beam} and {penalty:g}, the most that a server allows."
        )
    return Generation(beam, penalty, given.length_form), tuple(notes)


def _check_calibration(languages: Languages, options: ExportOptions) -> None:
    if options.precision == "int8" and options.calibration is None:
        sources = languages.all_sources
        if not any(built_in_language(it) for it in sources):
            shown = ", ".join(sources[:5])
            allowed = f"for int8, a file of typical source sentences: there are no built-in ones in {shown}"
            raise InvalidInput("calibration", None, allowed)
