"""Bundles imported from the committed checkpoints, and what the other programs translated with these."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from dragoman_export.exporter import ExportOptions
from dragoman_export.imports.imported import ImportOptions
from dragoman_export.imports.importer import import_checkpoint
from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.values import FinishReason, Options, Translation
from support.foreign.checkpoints import FOLDER, OPTIONS

ARGOS_MODEL = "ct2-opennmt-float32"
ARGOS = "argos-en-de"
_METADATA = {"from_code": "en", "to_code": "de", "package_version": "1.9", "target_prefix": "", "type": "translate"}


@dataclass(frozen=True, slots=True)
class Case:
    """A greedy translation by the program that a checkpoint is of; see `translate.py`."""

    source: str
    target: str
    text: str
    ids: list[int]
    ended: bool
    """Whether the end of the sentence follows the ids."""
    translation: str

    def options(self, model: str, length: int, **options: object) -> Options:
        """The options of a request for it."""
        return Options(
            model=model,
            source_language=self.source,
            target_language=self.target,
            max_length=length,
            return_tokens=True,
            stop_repetition=False,  # of models with random weights
            **options,  # type: ignore[arg-type]
        )

    def check(self, bundle: Bundle, translation: Translation, length: int) -> None:
        """Check that a translation of at most `length` tokens is this one, token for token."""
        best = translation.hypotheses[0]
        assert best.tokens == tuple(bundle.tokenizer.pieces(self.ids[:length])), self
        ended = self.ended and len(self.ids) <= length
        assert best.finish_reason is (FinishReason.STOP if ended else FinishReason.LENGTH), self
        if length >= len(self.ids):
            assert best.text == self.translation, self


@cache
def cases() -> dict[str, list[Case]]:
    """Name of a checkpoint -> translations by its program, but for empty ones: a text with letters always has one."""
    found = json.loads((FOLDER.parent / "translations.json").read_text())
    return {name: [Case(**it) for it in some if it["ids"]] for name, some in found.items()}


def argos_files(metadata: dict[str, str] | None = None) -> dict[str, bytes]:
    """The files of a package of Argos Translate."""
    names = ("model.bin", "config.json", "source_vocabulary.json", "target_vocabulary.json")
    found = {f"translate-en_de/model/{name}": (FOLDER / ARGOS_MODEL / name).read_bytes() for name in names}
    return found | {
        "translate-en_de/metadata.json": json.dumps(metadata or _METADATA).encode(),
        "translate-en_de/sentencepiece.model": (FOLDER / ARGOS_MODEL / "source.model").read_bytes(),
        "translate-en_de/stanza/en.pt": b"never unpacked",
    }


def argos_package(folder: Path, contents: dict[str, bytes]) -> Path:
    """Write a package of Argos Translate."""
    path, data = folder / "en_de.argosmodel", io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    path.write_bytes(data.getvalue())
    return path


def imported_bundle(name: str, folder: Path, precision: str = "fp32") -> Bundle:
    """Import a committed checkpoint, or the package `ARGOS`, to `folder`/NAME/1."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = argos_package(folder, argos_files()) if name == ARGOS else FOLDER / name
    few = folder / "sentences.txt"
    few.write_text("the cat\nwe put one red hen in the van\na bad sun did eat\nno men kept\nup\n")
    options = ExportOptions(name, "1", precision=precision, sentences=None if name == "mbart-50" else few)
    bundle, _, _ = import_checkpoint(checkpoint, folder / name / "1", options, OPTIONS.get(name, ImportOptions()))
    return bundle
