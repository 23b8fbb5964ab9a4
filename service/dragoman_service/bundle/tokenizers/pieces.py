"""The kind `pieces`: vocabularies that are lists of pieces, as CTranslate2 and Argos have them.

| setting | meaning | if missing |
|---|---|---|
| `split` | `sentencepiece`; `characters`: each one is a piece; `whitespace`: each run of other characters is a piece | `sentencepiece` |
| `unk_token`, `bos_token`, `eos_token` | names of special tokens. An unknown token that no list has gets the id behind the last | `<unk>`, `<s>`, `</s>` |
| `begin_token` | what the decoder is fed first | `bos_token` |
| `pad_token` | padding, which nothing reads | `eos_token` |
| `add_source_bos`, `add_source_eos` | whether the source has them in front and behind | false |
| `source_prefix`, `source_suffix` | lists of tokens between these and the text | none |
| `target_prefix` | list of tokens that are forced upon the decoder | none |
| `languages` | BCP 47 tag -> the token of the language, for the two names below | none |
| `special_tokens` | further tokens that no text gives, and that are not shown; those of the three lists are not among them unless named here | none |

In the three lists, `{source_language}` and `{target_language}` are the tokens of the languages of a request.
"""  # noqa: E501

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dragoman_service.bundle.tokenizers.decoding import Detokenizer, LeadingSpaces
from dragoman_service.bundle.tokenizers.encoding import (
    ModelSplitter,
    PatternSplitter,
    PieceEncoder,
    Splitter,
    byte_ids,
    leading_spaces,
    pieces_of,
)
from dragoman_service.bundle.tokenizers.given import Given
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.bundle.tokenizers.subwords import Language, Parts, Template
from dragoman_service.errors import InvalidInput

_PLACES = {f"{{{place.value}}}": place for place in Language}
_PATTERNS = {"characters": r"(?s:.)", "whitespace": r"\S+"}
_LISTS = ("source_prefix", "source_suffix", "target_prefix")
_NAMES = ("unk_token", "bos_token", "eos_token", "begin_token", "pad_token")

ROLES = tuple(f"{side}{role}" for role in ("vocabulary", "model") for side in ("", "source_", "target_"))
SETTINGS = ("split", *_NAMES, "add_source_bos", "add_source_eos", *_LISTS, "languages", "special_tokens")


def read(given: Given) -> Parts:
    """Read the files.

    Raises:
        InvalidInput: see `loading.load_tokenizer`.
    """
    source_list, target_list = (_side(given, "vocabulary", side, given.piece_list) for side in ("source", "target"))
    split = given.text("split", "sentencepiece")
    source_model = target_model = None
    if split == "sentencepiece":
        source_model, target_model = (_side(given, "model", side, given.model) for side in ("source", "target"))
    elif split not in _PATTERNS:
        raise InvalidInput("tokenizer.settings.split", split, f"sentencepiece, {', '.join(_PATTERNS)}")
    elif unread := [role for role in given.files if role.endswith("model")]:
        raise InvalidInput("tokenizer.files", unread[0], f"no SentencePiece model, as the setting split is {split}")
    unknown = given.text("unk_token", "<unk>")
    begin, end = given.text("bos_token", "<s>"), given.text("eos_token", "</s>")
    for pieces in (source_list, target_list):
        if unknown not in pieces:
            pieces.append(unknown)
    special = {unknown, begin, end, *given.languages().values(), *given.texts("special_tokens")}
    special |= {given.text("begin_token", begin), given.text("pad_token", end)}
    for model in (source_model, target_model):
        special |= _controls(model)
    source_ids, target_ids = _Ids(source_list, "source_vocabulary"), _Ids(target_list, "target_vocabulary")
    before = [*([begin] if given.flag("add_source_bos") else []), *given.texts("source_prefix")]
    after = [*given.texts("source_suffix"), *([end] if given.flag("add_source_eos") else [])]
    forced = given.texts("target_prefix")
    if "{source_language}" in forced:
        raise InvalidInput("tokenizer.settings.target_prefix", forced, "no {source_language}: the decoder reads none")
    return Parts(
        source=PieceEncoder(_splitter(split, source_model), source_ids.without(special), source_ids[unknown]),
        target=PieceEncoder(_splitter(split, target_model), target_ids.without(special), target_ids[unknown]),
        detokenizer=_detokenizer(given, target_list, special, split, target_model),
        special=SpecialIds(
            target_ids[given.text("pad_token", end)],
            target_ids[given.text("begin_token", begin)],
            target_ids[end],
            target_ids[unknown],
        ),
        template=Template(source_ids.places(before), source_ids.places(after), target_ids.places(forced)),
        source_vocab_size=given.size("source_vocab_size", len(source_list)),
        source_languages=source_ids.languages(given, [*before, *after]),
        target_languages=target_ids.languages(given, forced),
    )


class _Ids:
    """Piece -> id, of a list. Of pieces that are equal, the first counts."""

    def __init__(self, pieces: list[str], name: str) -> None:
        self._name = name
        self._ids: dict[str, int] = {}
        for i, piece in enumerate(pieces):
            self._ids.setdefault(piece, i)

    def __getitem__(self, piece: str) -> int:
        if piece not in self._ids:
            raise InvalidInput(f"tokenizer.files.{self._name}", f"no {piece!r}", "the tokens that the settings name")
        return self._ids[piece]

    def without(self, special: set[str]) -> Mapping[str, int]:
        """The ids of all other pieces."""
        return {piece: i for piece, i in self._ids.items() if piece not in special}

    def places(self, tokens: list[str]) -> tuple[int | Language, ...]:
        """The items of a template."""
        return tuple(_PLACES[it] if it in _PLACES else self[it] for it in tokens)

    def languages(self, given: Given, tokens: list[str]) -> dict[str, int]:
        """BCP 47 tag -> id, if `tokens` have a place for a language. Languages that this side lacks are left out."""
        if not _PLACES.keys() & set(tokens):
            return {}
        found = {tag: self._ids[token] for tag, token in given.languages().items() if token in self._ids}
        if not found:
            raise InvalidInput("tokenizer.settings.languages", given.languages(), f"tokens of {self._name}")
        return found


def _side(given: Given, role: str, side: str, read_file: Callable[[str], Any]) -> Any:
    """What a role has for one side, whether the sides share a file or not."""
    found = [it for it in (role, f"{side}_{role}") if it in given.files]
    if len(found) != 1:
        got = " and ".join(found) or "neither"
        raise InvalidInput("tokenizer.files", got, f"{role} for both sides, or {side}_{role} for one")
    return read_file(found[0])


def _splitter(split: str, model: Any) -> Splitter:
    return ModelSplitter(model) if split == "sentencepiece" else PatternSplitter(_PATTERNS[split])


def _controls(model: Any) -> set[str]:
    if model is None:
        return set()
    return {piece for i, piece in enumerate(pieces_of(model)) if model.is_control(i) or model.is_unknown(i)}


def _detokenizer(given: Given, pieces: list[str], special: set[str], split: str, model: Any) -> Detokenizer:
    numbered = dict(enumerate(pieces))
    spaced = split == "whitespace"
    return Detokenizer(
        size=given.size("vocab_size", len(pieces)),
        pieces=numbered,
        silent=frozenset(i for i, piece in numbered.items() if piece in special),
        bytes=byte_ids(model, numbered) if model else {},
        leading=leading_spaces(model) if model else LeadingSpaces.DROP_ALL if spaced else LeadingSpaces.KEEP,
        escaped=model is not None,
        separator=" " if spaced else "",
    )
