"""Which family a checkpoint is of, and the way to its reader."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from dragoman_export.imports.families import argos, blenderbot, ctranslate2, m2m, marian, marian_npz, mbart
from dragoman_export.imports.fewer_languages import keep_languages
from dragoman_export.imports.files import parse_yaml, read_object, read_text
from dragoman_export.imports.fit import check_tokenizer
from dragoman_export.imports.imported import Imported, ImportOptions
from dragoman_service.errors import InvalidInput
from dragoman_service.text.language_tags import canonical

READERS: dict[str, Callable[[Path, ImportOptions], Imported]] = {
    "marian": marian.read,
    "m2m_100": m2m.read,
    "mbart": mbart.read,
    "blenderbot": blenderbot.read,
    "ctranslate2": ctranslate2.read,
    "argos": argos.read,
    "marian_npz": marian_npz.read,
}
"""Family -> its reader."""
SUPPORTED = (
    "OPUS-MT and other MarianMT, M2M-100, NLLB-200, SMaLL-100 and mBART-50 of Hugging Face, CTranslate2 models of "
    "these or of OpenNMT, packages of Argos Translate, and Transformers of Marian (.npz)"
)
_HUGGING_FACE = ("marian", "m2m_100", "mbart", "blenderbot")
REFUSED = {
    "t5": "T5 and MADLAD-400 have relative positions and gated layers",
    "mt5": "mT5 has relative positions and gated layers",
    "umt5": "uMT5 has relative positions and gated layers",
    "nllb-moe": "NLLB with a mixture of experts chooses layers for each token",
    "fsmt": "FSMT needs the tokenizers of Moses and BPE",
}
"""`model_type` -> why it is not supported."""


def read_checkpoint(path: Path, options: ImportOptions | None = None) -> Imported:
    """Read a checkpoint of another program. The numbers of its tensors stay in the file until they are asked for.

    Args:
        path: A folder, an `.argosmodel`, or an `.npz` of Marian.
        options: What the checkpoint may not say about itself.

    Raises:
        InvalidInput: the family is not supported, or a file, switch or tensor is missing, damaged or disagrees.
    """
    options = _spelled(options or ImportOptions())
    family = detect(path)
    if options.positions != "own" and family != "marian":
        allowed = "'own'; only folders of MarianMT have other positions than Marian gave them"
        raise InvalidInput("positions", options.positions, allowed)
    if options.pieces_of and not options.languages:
        raise InvalidInput("pieces_of", str(options.pieces_of[0]), "none without --languages, whose pieces are kept")
    imported = READERS[family](path, options)
    if options.family is not None and imported.tokenizer.kind != "m2m":
        raise InvalidInput(
            "family", options.family, "none; only models with the vocabulary of M2M-100 may be of two families"
        )
    check_tokenizer(imported)
    return keep_languages(imported, options.languages, options.pieces_of) if options.languages else imported


def _spelled(options: ImportOptions) -> ImportOptions:
    """The languages that the user names, each once. Capitals, as in EN, would be a group of OPUS-MT."""
    return replace(options, sources=_once(options.sources, "sources"), targets=_once(options.targets, "targets"))


def _once(codes: Sequence[str], side: str) -> tuple[str, ...]:
    plain = [it.strip() for it in codes]
    if not all(plain):
        raise InvalidInput(side, "", "the tag or code of a language")
    return tuple(dict.fromkeys(canonical(it) if it[:2].isupper() else it for it in plain))


def detect(path: Path) -> str:
    """The family of a checkpoint, a key of `READERS`.

    Raises:
        InvalidInput: there is none, or it is not supported. The message names it.
    """
    if not (path.is_dir() or path.is_file()):
        raise InvalidInput("checkpoint", str(path), "a folder or file that exists")
    return _family_of_folder(path) if path.is_dir() else _family_of_file(path)


def _family_of_file(path: Path) -> str:
    if path.suffix == ".npz":
        return "marian_npz"
    if path.suffix == ".pt":
        raise _refusal(path.name, "checkpoints of fairseq are programs: they would have to be executed")
    if path.suffix == ".argosmodel" or zipfile.is_zipfile(path):
        return "argos"
    raise _refusal(path.name, "no file of a known kind")


def _family_of_folder(path: Path) -> str:
    names = {it.name for it in path.iterdir()}
    if "metadata.json" in names and "model" in names:
        return "argos"
    kind = read_object(path / "config.json").get("model_type") if "config.json" in names else None
    if kind is not None:
        if kind in _HUGGING_FACE:
            return str(kind)
        raise _refusal(
            f"model_type {kind}", REFUSED.get(kind, "an unknown family") if isinstance(kind, str) else "no name"
        )
    if "model.bin" in names:
        return "ctranslate2"
    if any("intgemm" in it for it in names) or _is_student(path):
        raise _refusal("a student of Bergamot or Firefox", "its decoder is a recurrent network (SSRU) in int8")
    if any(it.endswith(".npz") for it in names):
        if names & {"source.bpe", "target.bpe"} and "source.spm" not in names:
            raise _refusal(
                "source.bpe", "this model of OPUS-MT splits texts with Moses and BPE instead of SentencePiece"
            )
        return "marian_npz"
    if any(it.endswith(".pt") for it in names):
        raise _refusal("a checkpoint of fairseq", "its .pt is a program: it would have to be executed")
    if "config.json" in names:
        raise _refusal("config.json without model_type", "and no model.bin of CTranslate2 beside it")
    if "adapter_config.json" in names:
        raise _refusal("adapter_config.json", "an adapter such as LoRA: merge it into its model, and import the result")
    shown = ", ".join(sorted(names)[:8])
    raise _refusal(f"a folder with {shown}" if names else "an empty folder", "no checkpoint of a known kind")


def _is_student(path: Path) -> bool:
    """Whether decoder.yml names a model in Marian's binary format."""
    decoder = path / "decoder.yml"
    values = parse_yaml(read_text(decoder), decoder.name) if decoder.is_file() else None
    named = values.get("models") if isinstance(values, dict) else None
    return isinstance(named, list) and any(str(it).endswith(".bin") for it in named)


def _refusal(what: str, why: str) -> InvalidInput:
    return InvalidInput("checkpoint", what, f"{SUPPORTED} ({why})")
