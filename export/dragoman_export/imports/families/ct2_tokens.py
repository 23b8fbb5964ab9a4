"""Vocabularies and tokenizers of CTranslate2 folders. `model.bin` has pieces alone; who splits a text is not said."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dragoman_export.imports.families.marian import languages_of
from dragoman_export.imports.families.plain import split_of
from dragoman_export.imports.families.vocabulary import SPECIAL, check_fit, chosen, spm_pieces
from dragoman_export.imports.files import parse_json, read_text
from dragoman_export.imports.imported import ImportOptions, Languages, TokenizerParts
from dragoman_export.imports.languages import m2m, of_fairseq, opus_or_tag, own_codes
from dragoman_service.errors import InvalidInput

_PADS = ("<blank>", "<pad>")
_PAIRS = (("source.spm", "target.spm"), ("source.model", "target.model"))
_SINGLE = ("sentencepiece.bpe.model", "sentencepiece.model", "spm.model", "tokenizer.model", "spiece.model")
_LANGUAGE = {
    "m2m": r"__([a-z]{2,3})__",
    "fairseq": r"([a-z]{3}_[A-Z][a-z]{3}|[a-z]{2,3}_[A-Z]{2})",
}
"""Kind of tokenizer -> its tokens for languages."""
_TAG = re.compile(r">>(.+)<<")
_OWN_TAG = re.compile(r"<2([a-z]{2,3}(?:-[A-Za-z0-9]+)*)>")
"""The tag of the target language in Dragoman's own models, which stands before the source."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Fields of config.json, or attributes of the same meaning in older files."""

    unknown: str
    begin: str
    end: str
    start: str | None
    """What the decoder is fed first; None: whatever the caller says."""
    add_source_bos: bool
    add_source_eos: bool
    layer_norm_epsilon: float


@dataclass(frozen=True, slots=True)
class Vocabularies:
    """The pieces of each side, in the order of their ids."""

    source: list[str]
    target: list[str]
    files: list[Path]

    @property
    def shared(self) -> bool:
        """Whether both sides have the same pieces."""
        return self.source == self.target


@dataclass(frozen=True, slots=True)
class Tokens:
    """The tokenizer, and the ids that the model needs."""

    parts: TokenizerParts
    languages: Languages
    begin: int | None
    """What the decoder is fed first. None: an embedding of zeros."""
    end: int
    unknown: int
    pad: int | None
    """None: the vocabularies have no common one."""
    banned: frozenset[int]
    files: list[Path]
    notes: list[str] = field(default_factory=list)


def read_vocabularies(folder: Path, unknown: str) -> Vocabularies:
    """Read the vocabularies. Where one lacks the unknown token, it is the one after the last, as in CTranslate2.

    Raises:
        InvalidInput: a file is missing or damaged.
    """
    shared = _vocabulary(folder, "shared_vocabulary", unknown)
    if shared:
        return Vocabularies(shared[0], shared[0], [shared[1]])
    found = {}
    for side in ("source", "target"):
        it = _vocabulary(folder, f"{side}_vocabulary", unknown)
        if it is None:
            name = f"{side}_vocabulary.json"
            raise InvalidInput(name, None, f"this file, or shared_vocabulary.json, or one with .txt, in {folder}")
        found[side] = it
    return Vocabularies(found["source"][0], found["target"][0], [found["source"][1], found["target"][1]])


def _vocabulary(folder: Path, name: str, unknown: str) -> tuple[list[str], Path] | None:
    for path in (folder / f"{name}.json", folder / f"{name}.txt"):
        if not path.is_file():
            continue
        if path.suffix == ".json":
            pieces = parse_json(read_text(path), path.name)
        else:
            pieces = read_text(path).removesuffix("\n").split("\n")
            if all(piece.endswith("\r") for piece in pieces):
                pieces = [piece[:-1] for piece in pieces]
        if not isinstance(pieces, list) or not all(isinstance(piece, str) for piece in pieces):
            raise InvalidInput(path.name, type(pieces).__name__, "a list of pieces")
        return (pieces if unknown in pieces else [*pieces, unknown]), path
    return None


def read_tokens(
    folder: Path,
    options: ImportOptions,
    pieces: Vocabularies,
    named: Behaviour,
    *,
    zero_start: bool,
    prefix: str | None = None,
) -> Tokens:
    """Find the tokenizer of a folder, from its vocabulary and the SentencePiece models beside it.

    `prefix` is as for `ctranslate2.read`.

    Raises:
        InvalidInput: there is none, it does not fit the vocabulary, or languages are not known.
    """
    both = {*pieces.source, *pieces.target}  # one model for both sides has pieces of each
    models = _models(options.tokenizer or folder, both)
    for model, vocabulary in zip(models, (pieces.source, pieces.target) if len(models) > 1 else (both,), strict=False):
        check_fit(model, vocabulary)
    kind = _kind(pieces, models, zero_start=zero_start) if prefix is None else "pieces"
    parts, languages, more, notes = _FINDERS[kind](folder, options, pieces, models, named, zero_start)
    target = {piece: place for place, piece in enumerate(pieces.target)}
    if prefix:
        parts, tags = _with_prefix(parts, pieces, prefix)
        more |= tags
    end, unknown = (_place(target, it, "config.json") for it in (named.end, named.unknown))
    if named.start is None and not zero_start:
        raise InvalidInput("config.json: decoder_start_token", None, "a token; this model wants one from its caller")
    begin = None if zero_start else _place(target, str(named.start), "config.json: decoder_start_token")
    never = {target[it] for it in (*_PADS, named.begin) if it in target} | {unknown} | more
    notes.append(f"Never produced: {named.unknown}, {named.begin}, padding and tokens of languages.")
    return Tokens(
        parts,
        languages,
        begin,
        end,
        unknown,
        _pad(pieces),
        frozenset((never | ({begin} if begin is not None else set())) - {end}),
        models,
        notes,
    )


_Found = tuple[TokenizerParts, Languages, set[int], list[str]]
"""Parts, languages, further ids that are never produced, and notes."""


def _m2m(folder: Path, options: ImportOptions, pieces: Vocabularies, models: list[Path], *_: object) -> _Found:
    languages = _languages("m2m", pieces.target)
    files: dict[str, bytes | Path] = {"model": models[0], "vocabulary": _ids_json(pieces.target)}
    settings = {"languages": {code: code for code in languages}, "source_tag": "source"}
    made_up = {place for place, piece in enumerate(pieces.target) if piece.startswith("madeupword")}
    parts = TokenizerParts("m2m", files, settings)
    return parts, chosen(list(languages), options, m2m), {*languages.values()} | made_up, []


def _fairseq(folder: Path, options: ImportOptions, pieces: Vocabularies, models: list[Path], *_: object) -> _Found:
    expected = [*SPECIAL, *spm_pieces(models[0])[3:]]
    wrong = next((it for it, piece in enumerate(expected) if pieces.target[it : it + 1] != [piece]), None)
    if wrong is not None:
        got = f"{pieces.target[wrong : wrong + 1]} at {wrong}"
        raise InvalidInput(
            "vocabulary", got, f"{expected[wrong]!r}, as {models[0].name} has it, after <s> <pad> </s> <unk>"
        )
    languages = _languages("fairseq", pieces.target)
    parts = TokenizerParts("fairseq", {"model": models[0]}, {"languages": languages, "legacy": False})
    return (
        parts,
        chosen(list(languages), options, of_fairseq(languages)),
        set(range(len(expected), len(pieces.target))),
        [],
    )


def _marian(folder: Path, options: ImportOptions, pieces: Vocabularies, models: list[Path], *_: object) -> _Found:
    tags = [match[1] for match in map(_TAG.fullmatch, pieces.source) if match]
    notes: list[str] = []
    languages = languages_of(folder.resolve().name, {}, tags, options, notes)
    files: dict[str, bytes | Path] = {"source": models[0], "target": models[1], "vocabulary": _ids_json(pieces.source)}
    if not pieces.shared:
        files["target_vocabulary"] = _ids_json(pieces.target)
    settings = {"languages": {code: code for code in languages.targets}, "tags": bool(tags)}
    banned = {place for place, piece in enumerate(pieces.target) if _TAG.fullmatch(piece)}
    return TokenizerParts("marian", files, settings), languages, banned, notes


def _pieces(
    folder: Path, options: ImportOptions, pieces: Vocabularies, models: list[Path], named: Behaviour, zero_start: bool
) -> _Found:
    tags = {match[1]: piece for piece in pieces.source if (match := _OWN_TAG.fullmatch(piece))} if models else {}
    tags = tags if len(tags) > 1 else {}
    targets = own_codes(options.targets, tags, opus_or_tag, "targets") if tags else options.targets
    targets = targets or tuple(tags)
    if not (options.sources and targets):
        side = "targets" if options.sources else "sources"
        raise InvalidInput(side, None, f"languages, with --{side[:-1]}: a CTranslate2 folder does not say them")
    files: dict[str, bytes | Path] = {"vocabulary": _list_json(pieces.source)}
    if models:
        files["model"] = models[0]
    if not pieces.shared:
        files["target_vocabulary"] = _list_json(pieces.target)
    if len(models) > 1:
        files["target_model"] = models[1]
    settings: dict[str, object] = {
        "begin": named.begin,
        "end": named.end,
        "unknown": named.unknown,
        "add_source_bos": named.add_source_bos,
        # Hugging Face's tokenizer adds it for Marian's models, so that their conversion does not say so.
        "add_source_eos": named.add_source_eos or zero_start,
    }
    if tags:
        settings |= {"languages": {code: tags[code] for code in targets}, "source_prefix": ["{target_language}"]}
    notes = []
    if not models:
        settings["split"] = "characters"
        notes.append("There is no SentencePiece model, and every piece is a character: texts are split into these.")
    if zero_start and not named.add_source_eos:
        notes.append(
            f"{named.end} is added to sources, as all models of Marian expect, although config.json does not say it."
        )
    banned = {place for place, piece in enumerate(pieces.target) if piece in tags.values()}
    return TokenizerParts("pieces", files, settings), Languages(options.sources, targets), banned, notes


def _with_prefix(parts: TokenizerParts, pieces: Vocabularies, prefix: str) -> tuple[TokenizerParts, set[int]]:
    """Force a token upon the decoder. Returns also the ids of it and of its like, which name languages."""
    target = {piece: place for place, piece in enumerate(pieces.target)}
    _place(target, prefix, "metadata.json: target_prefix")
    like = [it for it in (_TAG, _OWN_TAG, *map(re.compile, _LANGUAGE.values())) if it.fullmatch(prefix)]
    tags = [piece for piece in pieces.target if piece == prefix or any(it.fullmatch(piece) for it in like)]
    settings = {**parts.settings, "target_prefix": [prefix], "special_tokens": tags}
    return replace(parts, settings=settings), {target[it] for it in tags}


_FINDERS: dict[str, Callable[..., _Found]] = {"m2m": _m2m, "fairseq": _fairseq, "marian": _marian, "pieces": _pieces}


def _kind(pieces: Vocabularies, models: Sequence[Path], *, zero_start: bool) -> str:
    if pieces.shared and pieces.target[:4] == list(SPECIAL):
        for kind in _LANGUAGE:
            if len(_languages(kind, pieces.target)) > 1:
                return kind
    return "marian" if zero_start and len(models) == 2 else "pieces"


def _languages(kind: str, pieces: Sequence[str]) -> dict[str, int]:
    matches = ((re.fullmatch(_LANGUAGE[kind], piece), place) for place, piece in enumerate(pieces))
    return {match[1]: place for match, place in matches if match}


def _models(place: Path, pieces: Iterable[str]) -> list[Path]:
    """The SentencePiece models at a place, one for both sides or one for each. Vocabularies of characters need none."""
    if place.is_file():
        return [place]
    for names in _PAIRS:
        if all((place / name).is_file() for name in names):
            return [place / name for name in names]
    found = [place / name for name in _SINGLE if (place / name).is_file()] or sorted(place.glob("*.model"))
    if not found and split_of(pieces) == "characters":
        return []
    if len(found) != 1:
        allowed = (
            f"one SentencePiece model in {place}, such as {_SINGLE[0]}, or {' and '.join(_PAIRS[0])}, or --tokenizer"
        )
        raise InvalidInput("tokenizer", ", ".join(it.name for it in found) or None, allowed)
    return found


def _pad(pieces: Vocabularies) -> int | None:
    both = zip(pieces.source, pieces.target, strict=False)
    return next((place for place, (one, other) in enumerate(both) if one == other and one in _PADS), None)


def _place(places: dict[str, int], piece: str, where: str) -> int:
    if piece not in places:
        raise InvalidInput(where, piece, "a piece of the target vocabulary")
    return places[piece]


def _ids_json(pieces: Sequence[str]) -> bytes:
    return json.dumps({piece: place for place, piece in enumerate(pieces)}, ensure_ascii=False).encode()


def _list_json(pieces: Sequence[str]) -> bytes:
    return json.dumps(pieces, ensure_ascii=False).encode()
