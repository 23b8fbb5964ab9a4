"""A model of many languages with some of them, and without the pieces that these do not need.

The table of embeddings is a large part of such a model: 262 of the 615 million parameters of NLLB-200 with 600M. Rows
are left out, and nothing else changes. The logits of the ids that are left are those of the whole model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import sentencepiece

from dragoman_export.exporter import contents_of
from dragoman_export.imports import languages as tags
from dragoman_export.imports.imported import Imported, Languages, TokenizerParts
from dragoman_export.imports.lazy import LazyTensor
from dragoman_export.imports.sentence_piece import parse, reduced
from dragoman_export.imports.switches import listed
from dragoman_export.imports.tokenizers import tagger
from dragoman_export.sentences import CALIBRATION, built_in_language
from dragoman_export.sources import read_text
from dragoman_model.config import ModelConfig
from dragoman_service.errors import InvalidInput
from dragoman_service.text.scripts import SCRIPTS, script_of

_TABLES = ("embedding.weight", "source_embedding.weight", "output_embedding.weight", "output_bias")
_ISO_15924 = dict(
    pair.split(":")
    for pair in listed("""
    Arab:ARABIC Armn:ARMENIAN Beng:BENGALI Cyrl:CYRILLIC Deva:DEVANAGARI Ethi:ETHIOPIC Geor:GEORGIAN Grek:GREEK
    Gujr:GUJARATI Guru:GURMUKHI Hang:HANGUL Hans:CJK Hant:CJK Hebr:HEBREW Khmr:KHMER Knda:KANNADA Laoo:LAO Latn:LATIN
    Mlym:MALAYALAM Mymr:MYANMAR Orya:ORIYA Sinh:SINHALA Taml:TAMIL Telu:TELUGU Tfng:TIFINAGH Thai:THAI Tibt:TIBETAN
    """)
)
"""Script in the codes of NLLB -> the first word of the Unicode names of its letters."""
_ALL_SCRIPTS = frozenset((*_ISO_15924.values(), *(script for scripts in SCRIPTS.values() for script in scripts)))


def keep_languages(imported: Imported, wanted: Sequence[str], texts: Sequence[Path] = ()) -> Imported:
    """Keep some languages of a model, and the pieces that they need.

    These are the pieces without letters of other scripts than those of the languages, or, with `texts`, the pieces into
    which these texts and the built-in sentences of the languages are split. See `sentence_piece.reduced` for those that
    are kept with them, and for what stays the same.

    Args:
        imported: A model of M2M-100, SMaLL-100, NLLB-200 or mBART-50.
        wanted: The languages, as tags or in the model's own codes.
        texts: Files, one sentence a line.

    Raises:
        InvalidInput: a language is not known, has no script that is known, or cannot be the source or target that the
            user asked for; a file cannot be read; or the model is of another family.
    """
    parts, config = imported.tokenizer, imported.config
    if parts.kind not in ("m2m", "fairseq"):
        allowed = "no choice: a vocabulary is reduced for M2M-100, SMaLL-100, NLLB-200 and mBART-50 alone"
        raise InvalidInput("languages", ", ".join(wanted), allowed)
    chosen = _chosen(imported, wanted)
    is_wanted, rule = _rule(imported, chosen, texts)
    model = contents_of(parts.files["model"])
    name = "the tokenizer"
    pieces = {it.piece for it in parse(model, name).pieces}
    smaller, kept = reduced(model, name, is_wanted)
    ids = _ids(parts)
    language_ids = _language_ids(parts, ids)
    dead = {*config.banned_ids, *language_ids.values()} - {config.pad_id, config.begin_id, config.unknown_id}

    def is_kept(piece: str, number: int) -> bool:
        if piece in pieces:
            return piece in kept
        return number not in dead and (number < 4 or len(piece) == 1 or is_wanted(piece))

    left = sorted(
        {number for piece, number in ids.items() if is_kept(piece, number)}
        | {language_ids[it] for it in chosen.values()}
    )
    new = {number: place for place, number in enumerate(left)}
    tensors = {it: tensor.gathered(left) if it in _TABLES else tensor for it, tensor in imported.tensors.items()}
    note = (
        f"Languages kept: {', '.join(chosen)}; {len(chosen)} of {len(language_ids)}. Rows of the vocabulary kept: "
        f"{len(left):,} of {config.vocab_size:,}, {rule}. Their tables have {_mebibytes(tensors):,.1f} MiB instead of "
        f"{_mebibytes(imported.tensors):,.1f} in fp32."
    )
    return replace(
        imported,
        config=_renumbered(config, new),
        tensors=tensors,
        tokenizer=_smaller(parts, smaller, {piece: new[it] for piece, it in ids.items() if it in new}, chosen, new),
        languages=_directions(imported.languages, chosen),
        notes=(*imported.notes, note),
    )


def _renumbered(config: ModelConfig, new: Mapping[int, int]) -> ModelConfig:
    return replace(
        config,
        vocab_size=len(new),
        source_vocab_size=None,
        pad_id=new[config.pad_id],
        begin_id=new[config.begin_id],
        end_id=new[config.end_id],
        unknown_id=new[config.unknown_id],
        banned_ids=tuple(new[it] for it in config.banned_ids if it in new),
    )


def _mebibytes(tensors: Mapping[str, LazyTensor]) -> float:
    """Size of the tables of the vocabulary in fp32."""
    return sum(4 * math.prod(tensors[it].shape) for it in _TABLES if it in tensors) / 2**20


def _chosen(imported: Imported, wanted: Sequence[str]) -> dict[str, str]:
    """Tag -> the model's own code, of the languages that are kept."""
    tag_of, known = tagger(imported), imported.tokenizer.settings["languages"]
    codes = tags.own_codes(wanted, known, tag_of, "languages")
    if len(codes) < 2:
        raise InvalidInput("languages", ", ".join(wanted), "two languages or more")
    tag = {code: it for it, code in tags.by_tag(known, tag_of).items()}
    return {tag[code]: code for code in codes}


def _directions(before: Languages, chosen: dict[str, str]) -> Languages:
    codes = set(chosen.values())
    sides = {
        "sources": tuple(it for it in before.sources if it in codes),
        "targets": tuple(it for it in before.targets if it in codes),
    }
    for side, left in sides.items():
        if not left:
            allowed = f"one of the {side} of the model, {', '.join(getattr(before, side)[:8])}"
            raise InvalidInput("languages", ", ".join(chosen), allowed)
    return Languages(sides["sources"], sides["targets"])


def _rule(imported: Imported, chosen: dict[str, str], texts: Sequence[Path]) -> tuple[Callable[[str], bool], str]:
    """Whether a piece is needed, and the rule in words."""
    if texts:
        names = ", ".join(it.name for it in texts)
        return _of_texts(imported, chosen, texts), f"whose pieces occur in {names} or in the built-in sentences"
    found: set[str] = set()
    for tag, code in chosen.items():
        own = _ISO_15924.get(code.partition("_")[2])
        scripts = (own,) if own else SCRIPTS.get(tag.partition("-")[0], ())
        if not scripts:
            raise InvalidInput("languages", tag, "text in it, with --pieces-of FILE: its script is not known")
        found.update(scripts)
    others = _ALL_SCRIPTS - found
    return (
        lambda piece: not any(script_of(it) in others for it in piece),
        f"without letters of other scripts than {', '.join(sorted(found))}",
    )


def _of_texts(imported: Imported, chosen: dict[str, str], texts: Sequence[Path]) -> Callable[[str], bool]:
    model = sentencepiece.SentencePieceProcessor(model_proto=contents_of(imported.tokenizer.files["model"]))
    seen: set[str] = set()
    for path in texts:
        lines = read_text(path, "pieces_of").splitlines()
        if not any(map(str.strip, lines)):
            raise InvalidInput("pieces_of", str(path), "a file with text, one sentence a line")
        seen.update(*model.encode(lines, out_type=str))
    for tag in chosen:
        if language := built_in_language(tag):
            seen.update(*model.encode(list(CALIBRATION[language]), out_type=str))
    return seen.__contains__


def _ids(parts: TokenizerParts) -> dict[str, int]:
    """Piece -> id, of all pieces."""
    if parts.kind == "m2m":
        found: dict[str, int] = json.loads(contents_of(parts.files["vocabulary"]))
        return found
    names = [it.piece for it in parse(contents_of(parts.files["model"]), "the tokenizer").pieces]
    # fairseq's four special ids stand for the first three of SentencePiece, in another order.
    return {"<pad>": 1, **{piece: number + 1 for number, piece in enumerate(names)}, "<s>": 0, "</s>": 2, "<unk>": 3}


def _language_ids(parts: TokenizerParts, ids: dict[str, int]) -> dict[str, int]:
    """The model's own code -> id."""
    languages = parts.settings["languages"]
    return {it: ids[f"__{it}__"] for it in languages} if parts.kind == "m2m" else dict(languages)


def _smaller(
    parts: TokenizerParts, model: bytes, ids: dict[str, int], chosen: dict[str, str], new: dict[int, int]
) -> TokenizerParts:
    if parts.kind == "m2m":
        files = {"model": model, "vocabulary": json.dumps(ids, ensure_ascii=False).encode()}
        languages: dict[str, object] = {code: code for code in chosen.values()}
    else:
        files = {"model": model}
        languages = {code: new[parts.settings["languages"][code]] for code in chosen.values()}
    return TokenizerParts(parts.kind, files, {**parts.settings, "languages": languages})
