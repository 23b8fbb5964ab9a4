"""MarianMT of Hugging Face (OPUS-MT): post-norm, one vocabulary for two SentencePiece models, tags `>>deu<<`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dragoman_export.imports import positions as formulas
from dragoman_export.imports.architecture import check_complete, positions
from dragoman_export.imports.families.generation import banned_ids, read_decoding
from dragoman_export.imports.families.groups import is_group
from dragoman_export.imports.families.hugging_face import GENERATION, NO_EFFECT, Folder
from dragoman_export.imports.families.vocabulary import added_tokens, check_fit
from dragoman_export.imports.files import need, vocabulary
from dragoman_export.imports.imported import Imported, ImportOptions, Languages, TokenizerParts
from dragoman_export.imports.languages import contradictions, opus_or_tag, own_codes
from dragoman_export.imports.lazy import LazyTensor
from dragoman_export.imports.licence import licence_notes
from dragoman_model.config import ModelConfig
from dragoman_service.errors import InvalidInput

_TAG = re.compile(r">>(.+)<<")
_NAME = re.compile(r"opus-mt(?:-tc-big|-tc-base|-tc-bible-big|_tiny)?-(.+)-([^-]+)")
"""Name of a folder of OPUS-MT: source, target."""
BEGIN = "<s>"
"""What the decoder is fed first where it is not padding, as in Dragoman's own models."""


@dataclass(frozen=True, slots=True)
class Body:
    """Where the classes differ that have MarianMT's tokenizer and an output bias."""

    norm: Literal["post", "pre"]
    positions: Sequence[LazyTensor]
    """[P, D] of encoder and decoder."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `ModelConfig`."""
    tensors: Mapping[str, LazyTensor] = field(default_factory=dict)
    """Parameters that only this class has."""


def read(path: Path, options: ImportOptions) -> Imported:
    """Read a folder. Raises InvalidInput for what is missing, disagrees or is not supported."""
    folder = Folder(path, "marian", options)
    it = folder.config
    it.fixed(normalize_before=False, add_final_layer_norm=False, normalize_embedding=False, add_bias_logits=False)
    it.fixed(static_position_embeddings=True)
    tables = _positions(folder, options, folder.max_positions(), it.integer("d_model"))
    if options.positions == "marian":
        folder.notes.append("Positions have Marian's own formula; Hugging Face Transformers computes them otherwise.")
    return finish(folder, options, "marian", Body("post", tables))


def finish(folder: Folder, options: ImportOptions, family: str, body: Body) -> Imported:
    """Put an import together. Raises InvalidInput for what is missing, disagrees or is not supported."""
    it = folder.config
    sizes, settings = folder.sizes(), folder.settings()
    words = it.integer("vocab_size")
    targets = it.integer("decoder_vocab_size", default=words)
    shared = it.flag("share_encoder_decoder_embeddings", True)
    if shared:
        it.among("decoder_vocab_size", words)
    count = folder.max_positions()
    pad, end = it.integer("pad_token_id", 0), it.integer("eos_token_id", 0)
    begin = it.integer("decoder_start_token_id", 0, default=pad)
    it.get("bos_token_id")
    tables, tensors = folder.embeddings(words, targets, sizes.d_model, bias=True).convert()
    where, position_tensors = positions(*body.positions)
    tensors |= folder.layers(sizes) | position_tensors | {**body.tensors}
    folder.tensors.finish()
    decoding = read_decoding(folder, begin_id=begin, end_id=end, pad_id=pad, max_positions=count)
    it.finish(NO_EFFECT | GENERATION)
    parts, languages, pieces = _tokenizer(folder, options, words, targets)
    unknown = _expect(pieces, "<unk>", None)
    _expect(pieces, "</s>", end)
    _expect(pieces, "<pad>", pad)
    if begin not in (pad, pieces.get(BEGIN)):
        raise it.refusal(
            "decoder_start_token_id", " or ".join(str(pieces[it]) for it in ("<pad>", BEGIN) if it in pieces)
        )
    if begin != pad:
        parts = replace(parts, settings={**parts.settings, "begin": BEGIN})
    tags = {number for piece, number in pieces.items() if _TAG.fullmatch(piece)}
    folder.notes.append("<unk>, <pad> and the tags of languages are never produced, as Marian does by default.")
    nameless = set(range(targets)) - set(pieces.values())
    if nameless:
        folder.notes.append(f"{len(nameless)} rows of the embeddings have no piece in the vocabulary: never produced.")
    banned = banned_ids({begin, pad, unknown} | tags | nameless | decoding.banned, end_id=end, words=targets)
    config = ModelConfig(
        norm=body.norm,
        **settings | sizes.settings() | tables | where | {**body.settings},
        pad_id=pad,
        begin_id=begin,
        end_id=end,
        unknown_id=unknown,
        banned_ids=banned,
    )
    return Imported(
        config,
        check_complete(config, tensors),
        parts,
        languages,
        decoding.generation,
        folder.licence,
        folder.origin(family),
        (*licence_notes(folder.licence), *folder.notes),
    )


def _positions(folder: Folder, options: ImportOptions, count: int, width: int) -> list[LazyTensor]:
    """The tables of both stacks: those of older files, which Transformers reads too, or its formula."""
    formula = formulas.hugging_face_marian(count, width)
    names = [f"model.{stack}.embed_positions.weight" for stack in ("encoder", "decoder")]
    tables = [folder.tensors.find(name, (count, width)) or formula for name in names]
    return [formulas.tensor2tensor(count, width)] * 2 if options.positions == "marian" else tables


def _tokenizer(
    folder: Folder, options: ImportOptions, source_words: int, target_words: int
) -> tuple[TokenizerParts, Languages, dict[str, int]]:
    """The tokenizer, the languages, and the target vocabulary."""
    path = folder.path
    why = (
        "OPUS-MT models with Moses and BPE instead of SentencePiece are not supported, and tokenizer.json has one side "
        "alone; take both from the original model"
    )
    files = {role: need(path, f"{role}.spm", why) for role in ("source", "target")}
    files["vocabulary"] = need(path, "vocab.json", "it gives the pieces their ids")
    source = target = vocabulary(files["vocabulary"])
    if folder.tokenizer.get("separate_vocabs"):
        files["target_vocabulary"] = need(path, "target_vocab.json", "tokenizer_config.json says separate_vocabs")
        target = vocabulary(files["target_vocabulary"])
    check_fit(files["source"], source)
    check_fit(files["target"], target)
    for piece, number in added_tokens(folder).items():
        if number not in (source.get(piece), target.get(piece)):
            allowed = "tokens that vocab.json has with the same id; others cannot be added"
            raise InvalidInput(f"added token {piece}", number, allowed)
    for pieces, words, role in ((source, source_words, "vocabulary"), (target, target_words, "target_vocabulary")):
        if max(pieces.values(), default=0) >= words:
            name = files.get(role, files["vocabulary"]).name
            raise InvalidInput(
                f"{name}: largest id", max(pieces.values()), f"less than {words}, the rows of the embeddings"
            )
    folder.used += [*files.values(), *filter(Path.is_file, [path / "tokenizer_config.json"])]
    tags = [match[1] for match in map(_TAG.fullmatch, source) if match]
    languages = languages_of(path.resolve().name, folder.tokenizer, tags, options, folder.notes)
    settings = {"languages": {code: code for code in languages.targets}, "tags": bool(tags)}
    return TokenizerParts("marian", dict(files), settings), languages, target


def languages_of(
    name: str, said: dict[str, object], tags: list[str], options: ImportOptions, notes: list[str]
) -> Languages:
    """The languages of a model of OPUS-MT.

    Args:
        name: The name of the folder.
        said: Fields `source_lang` and `target_lang` of the checkpoint, if it has them.
        tags: Codes of the tags of the vocabulary; the targets, if there are any.
        options: What the user says counts.
        notes: Gets a note for languages that the checkpoint says otherwise.

    Raises:
        InvalidInput: the languages are not known, or the user names others than the tags.
    """
    match = _NAME.fullmatch(name)
    sources = _one(said.get("source_lang")) or _one(match and match[1])
    targets = tuple(tags) or _one(said.get("target_lang")) or _one(match and match[2])
    if tags:
        options = replace(options, targets=own_codes(options.targets, tags, opus_or_tag, "targets"))
    found = {"sources": options.sources or sources, "targets": options.targets or targets}
    for side, codes in found.items():
        unclear = [code for code in codes if is_group(code)]
        if not codes or unclear:
            allowed = f"languages, with --{side[:-1]}: the checkpoint does not say them one by one"
            raise InvalidInput(side, ", ".join(unclear) or None, allowed)
    own, other = (tuple(it for it in side if not is_group(it)) for side in (sources, targets))
    notes += contradictions(Languages(own, other), options)
    return Languages(found["sources"], found["targets"])


def _one(code: object) -> tuple[str, ...]:
    return (code,) if isinstance(code, str) and code else ()


def _expect(pieces: dict[str, int], piece: str, number: int | None) -> int:
    found = pieces.get(piece)
    if found is None or number not in (None, found):
        allowed = f"an entry {piece}" + (f" with the id {number} of config.json" if number is not None else "")
        raise InvalidInput("vocab.json", found, allowed)
    return found
