"""SentencePiece models from `tokenizer.json`, for folders of NLLB and mBART-50 without another file of the tokenizer.

Transformers converts a SentencePiece model to this file. What it converts is converted back; anything else is refused
by name, for it would be a guess.
"""

from __future__ import annotations

import base64
import binascii
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dragoman_export.imports.files import read_object
from dragoman_export.imports.sentence_piece import BPE, NORMAL, UNIGRAM, check_lengths, new_model
from dragoman_service.errors import InvalidInput

FILE = "tokenizer.json"
_SPACE = "▁"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
_UNKNOWN, _CONTROL = 2, 3
"""Types of pieces."""
_METASPACE = {"type": "Metaspace", "replacement": _SPACE}
_NO_SPLIT = {"type": "WhitespaceSplit"}
_ONE_SPACE = ({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": it} for it in (" ", _SPACE))
_NORMALIZERS = ({"type": "Strip", "strip_left": False, "strip_right": True}, *_ONE_SPACE)
_FIXED: dict[str, Any] = {
    "byte_fallback": False,
    "continuing_subword_prefix": None,
    "dropout": None,
    "end_of_word_suffix": None,
    "fuse_unk": True,
    "ignore_merges": False,
    "unk_id": 3,
    "unk_token": "<unk>",
}
"""Field of `model` -> the only value that is supported; a missing one has it."""


def sentence_piece(path: Path) -> bytes:
    """The SentencePiece model that a `tokenizer.json` was converted from, but for what neither program reads.

    Raises:
        InvalidInput: the file is damaged, or does something that no SentencePiece model of these families does.
    """
    values = read_object(path)
    model = values.get("model")
    if not isinstance(model, dict):
        raise _refusal("model", model, "an object")
    for name, value in _FIXED.items():
        if model.get(name, value) != value:
            raise _refusal(f"model.{name}", model[name], repr(value))
    special = {it.get("content") for it in values.get("added_tokens") or [] if isinstance(it, dict)}
    scores = _scores(model)
    pieces = {piece: score for piece, score in scores.items() if piece not in special}
    if tuple(scores)[:4] != _SPECIAL or list(pieces) != list(scores)[4 : 4 + len(pieces)]:
        raise _refusal("model.vocab", list(scores)[:4], f"{', '.join(_SPECIAL)}, the pieces, and then the other tokens")
    if inner := next((it for it in pieces if _SPACE in it[1:]), None):
        raise _refusal("model.vocab", inner, f"pieces with {_SPACE} at their beginning alone")
    proto = new_model()
    for piece, kind in (("<unk>", _UNKNOWN), ("<s>", _CONTROL), ("</s>", _CONTROL)):
        proto.pieces.add(piece=piece, score=0.0, type=kind)
    for piece, score in pieces.items():
        proto.pieces.add(piece=piece, score=score, type=NORMAL)
    proto.trainer_spec.model_type = BPE if model.get("type") == "BPE" else UNIGRAM
    proto.trainer_spec.vocab_size = len(proto.pieces)
    proto.trainer_spec.unk_id, proto.trainer_spec.bos_id, proto.trainer_spec.eos_id = 0, 1, 2
    proto.trainer_spec.pad_id = -1
    proto.normalizer_spec.name = "precompiled"
    proto.normalizer_spec.precompiled_charsmap = _charsmap(values.get("normalizer"))
    proto.normalizer_spec.add_dummy_prefix = True
    proto.normalizer_spec.remove_extra_whitespaces = True
    proto.normalizer_spec.escape_whitespaces = True
    _check_spaces(values.get("pre_tokenizer"))
    data: bytes = proto.SerializeToString()
    return data


def _charsmap(normalizer: Any) -> bytes:
    """The table of SentencePiece's normaliser. Spaces must be made one, as SentencePiece does by itself."""
    steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
    tables = [
        it.get("precompiled_charsmap") for it in steps if isinstance(it, dict) and it.get("type") == "Precompiled"
    ]
    others = [it for it in steps if not (isinstance(it, dict) and it.get("type") == "Precompiled")]
    for it in others:
        if it not in _NORMALIZERS:
            kind = it.get("type") if isinstance(it, dict) else it
            allowed = "Precompiled, the table of SentencePiece, before the steps that make several spaces one"
            raise _refusal("normalizer", kind, f"{allowed}; Transformers 5 writes NFKC instead, which differs from it")
    if len(tables) > 1 or (tables and steps[0] not in [it for it in steps if it not in others]):
        raise _refusal("normalizer", [it.get("type") for it in steps], "one Precompiled, as the first step")
    if not any(it in _NORMALIZERS[1:] for it in others):
        raise _refusal("normalizer", [it.get("type") for it in steps], "a step that makes several spaces one")
    try:
        return base64.b64decode(str(tables[0]), validate=True) if tables else b""
    except (binascii.Error, TypeError, ValueError) as error:
        raise _refusal("normalizer: precompiled_charsmap", "damaged", f"base64 ({error})") from error


def _check_spaces(pre_tokenizer: Any) -> None:
    """Check that words begin with a mark of the space, also the first one."""
    steps = [pre_tokenizer]
    if isinstance(pre_tokenizer, dict) and pre_tokenizer.get("type") == "Sequence":
        steps = pre_tokenizer.get("pretokenizers", [])
    steps = [it for it in steps if it != _NO_SPLIT]
    right = len(steps) == 1 and isinstance(steps[0], dict) and _METASPACE.items() <= steps[0].items()
    prefix = right and (
        steps[0].get("prepend_scheme") or {True: "always", None: "always"}.get(steps[0].get("add_prefix_space"))
    )
    if not right or prefix != "always" or steps[0].get("split", True) is not True:
        raise _refusal("pre_tokenizer", pre_tokenizer, "Metaspace with prepend_scheme always")


def _scores(model: Mapping[str, Any]) -> dict[str, float]:
    """Piece -> score, in the order of the ids. BPE has ranks of mergers instead, the best one first."""
    vocabulary = model.get("vocab")
    try:
        check_lengths([it if isinstance(it, str) else it[0] for it in vocabulary or ()], f"{FILE}: model.vocab")
        if model.get("type") == "Unigram" and isinstance(vocabulary, list):
            scores = {str(piece): float(score) for piece, score in vocabulary}
            if len(scores) != len(vocabulary):
                raise ValueError("a piece twice")
            return scores
        if model.get("type") == "BPE" and isinstance(vocabulary, dict):
            if sorted(vocabulary.values()) != list(range(len(vocabulary))):
                raise ValueError("ids that are missing or given twice")
            pairs = [tuple(it.split(" ")) if isinstance(it, str) else tuple(it) for it in model["merges"]]
            return _ranked(sorted(vocabulary, key=lambda it: vocabulary[it]), [(one, other) for one, other in pairs])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise _refusal("model", "damaged", f"pieces with scores, or pieces with ids and mergers ({error!r})") from error
    raise _refusal("model.type", model.get("type"), "Unigram or BPE")


def _ranked(pieces: Sequence[str], pairs: Sequence[tuple[str, str]]) -> dict[str, float]:
    """Scores of BPE. SentencePiece gives them to pieces, whatever they are merged from; so must the mergers."""
    order = [piece for piece, _ in itertools.groupby(one + other for one, other in pairs)]
    ranks = {piece: -float(rank) for rank, piece in enumerate(order)}
    known = set(pieces)
    splits = {(it[:at], it[at:]) for it in pieces[len(_SPECIAL) :] for at in range(1, len(it))}
    possible = {(one, other) for one, other in splits if one in known and other in known}
    if len(ranks) != len(order) or possible != set(pairs):
        raise _refusal("model.merges", f"{len(pairs)} mergers", "all mergers of a piece, one after the other")
    return {piece: ranks.get(piece, -float(len(order) + place)) for place, piece in enumerate(pieces)}


def _refusal(field: str, got: object, allowed: str) -> InvalidInput:
    return InvalidInput(f"{FILE}: {field}", got, f"{allowed}. Take sentencepiece.bpe.model from the original model")
