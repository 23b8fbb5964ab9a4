"""What M2M-100, NLLB and mBART-50 have in common: fairseq's pre-norm Transformer, ids, and languages as tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dragoman_export.imports.architecture import check_complete, positions
from dragoman_export.imports.families.generation import banned_ids, read_decoding
from dragoman_export.imports.families.hugging_face import GENERATION, NO_EFFECT, Folder
from dragoman_export.imports.families.vocabulary import SPECIAL, check_special, chosen
from dragoman_export.imports.imported import Imported, ImportOptions, TokenizerParts
from dragoman_export.imports.lazy import LazyTensor
from dragoman_export.imports.licence import licence_notes
from dragoman_model.config import ModelConfig

FIRST_POSITION = 2
"""Row of the first token in fairseq's tables: the padding id plus 1."""
_OLD = ("*.version", "model.*.embed_positions._float_tensor")
"""Tensors of older files that hold no parameters."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokenizer of a model, and what its ids mean."""

    family: str
    parts: TokenizerParts
    languages: Mapping[str, int]
    """Language -> id."""
    tag_of: Callable[[str], str]
    """Language -> tag."""
    pieces: int
    """Ids below this one are special or pieces of text."""


@dataclass(frozen=True, slots=True)
class Body:
    """Where the families differ."""

    positions: tuple[LazyTensor, LazyTensor]
    """[P, D] of encoder and decoder."""
    output_bias: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `ModelConfig`."""
    tensors: Mapping[str, LazyTensor] = field(default_factory=dict)
    """Parameters that only this family has."""


def finish(folder: Folder, options: ImportOptions, tokens: Tokens, body: Body) -> Imported:
    """Put an import together. Raises InvalidInput for what is missing, disagrees or is not supported."""
    it = folder.config
    check_special(folder)
    sizes, words = folder.sizes(), it.integer("vocab_size")
    usual = folder.settings()
    settings, embeddings = folder.embeddings(words, words, sizes.d_model, bias=body.output_bias).convert()
    where, position_tensors = positions(*body.positions)
    tensors = {**body.tensors} | embeddings | position_tensors | folder.layers(sizes)
    tensors |= folder.norms(sizes.d_model, "norm", "layer_norm")
    folder.tensors.ignore(*_OLD)
    folder.tensors.finish()
    decoding = read_decoding(
        folder,
        begin_id=SPECIAL["</s>"],
        end_id=SPECIAL["</s>"],
        pad_id=SPECIAL["<pad>"],
        max_positions=where["max_positions"],
    )
    it.finish(NO_EFFECT | GENERATION)
    banned = {
        SPECIAL["<s>"],
        SPECIAL["<pad>"],
        SPECIAL["<unk>"],
        *tokens.languages.values(),
        *range(tokens.pieces, words),
    }
    config = ModelConfig(
        norm="pre",
        **usual | sizes.settings() | settings | where | {**body.settings},
        pad_id=SPECIAL["<pad>"],
        begin_id=SPECIAL["</s>"],
        end_id=SPECIAL["</s>"],
        unknown_id=SPECIAL["<unk>"],
        banned_ids=banned_ids(banned | decoding.banned, end_id=SPECIAL["</s>"], words=words),
    )
    folder.notes.append(
        "Never produced: <s>, <pad>, <unk>, tokens of languages after the first, and tokens behind the pieces."
    )
    return Imported(
        config,
        check_complete(config, tensors),
        tokens.parts,
        chosen(list(tokens.languages), options, tokens.tag_of, folder.path.resolve().name, folder.notes),
        decoding.generation,
        folder.licence,
        folder.origin(tokens.family),
        (*licence_notes(folder.licence), *folder.notes),
    )
