"""Whether the SentencePiece models of a checkpoint are those that its vocabulary was made with, as sentences show."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dragoman_export.exporter import contents_of
from dragoman_export.imports.imported import Imported, TokenizerParts
from dragoman_export.imports.tokenizers import tagger
from dragoman_export.sentences import CALIBRATION, built_in_language
from dragoman_service.bundle.tokenizers.encoding import open_model
from dragoman_service.errors import InvalidInput

MOST_LACKING = 0.02
"""Largest share of the pieces of sentences that a vocabulary may lack. With models of 8,000 pieces, each trained on
40,000 lines, the right one is at 0.1%, one of the same language for another model at 3.5%, of another one at 5%."""
LONGER = 1.2
"""How much longer sentences are in pieces of the other language, at least. Those of English and German models: 1.9."""


@dataclass(frozen=True, slots=True)
class _Side:
    name: str
    """Of the file, for messages."""
    model: Any
    vocabulary: frozenset[str]
    texts: tuple[str, ...]
    """The built-in sentences of its languages, in which there are none for some."""

    def check(self) -> None:
        """Raise InvalidInput if the vocabulary lacks many pieces that the model makes of the sentences."""
        ids = [number for text in self.model.encode(list(self.texts)) for number in text]
        pieces = [self.model.id_to_piece(it) for it in ids if not self.model.is_unknown(it)]
        lacking = [it for it in pieces if it not in self.vocabulary]
        if len(lacking) > MOST_LACKING * len(pieces):
            shown = ", ".join(map(repr, dict.fromkeys(lacking[:3])))
            allowed = (
                f"the tokenizer of this model; of the {len(pieces)} pieces of sentences in its languages, the "
                f"vocabulary lacks {len(lacking)}, such as {shown}"
            )
            raise InvalidInput("tokenizer", self.name, allowed)

    def length(self, model: Any) -> int:
        """Pieces of the sentences in another model."""
        return sum(map(len, model.encode(list(self.texts))))


def check_tokenizer(imported: Imported) -> None:
    """Check the tokenizer of a checkpoint with the built-in sentences of its languages, as far as there are some.

    Models of fairseq have no vocabulary beside the SentencePiece model, so there is nothing to compare.

    Raises:
        InvalidInput: a vocabulary lacks many pieces that its SentencePiece model makes of the sentences, or the models
            of source and target are exchanged.
    """
    sides = _sides(imported)
    for side in sides:
        side.check()
    if len(sides) == 2 and all(it.texts for it in sides):
        source, target = sides
        if source.length(source.model) > LONGER * source.length(target.model) and target.length(
            target.model
        ) > LONGER * target.length(source.model):
            allowed = (
                "models and languages in this order; sentences of each side have fewer pieces in the other's model"
            )
            raise InvalidInput("tokenizer", f"{source.name}, {target.name}", allowed)


def _sides(imported: Imported) -> list[_Side]:
    parts, languages = imported.tokenizer, imported.languages
    if parts.kind == "m2m":
        both = (*languages.sources, *languages.targets)
        return [_side(imported, "model", "vocabulary", both)]
    models = {"marian": ("source", "target"), "pieces": ("model", "target_model")}.get(parts.kind)
    if models is None or models[0] not in parts.files:
        return []
    second = models[1] if models[1] in parts.files else models[0]
    vocabulary = "target_vocabulary" if "target_vocabulary" in parts.files else "vocabulary"
    return [
        _side(imported, models[0], "vocabulary", languages.sources),
        _side(imported, second, vocabulary, languages.targets),
    ]


def _side(imported: Imported, model: str, vocabulary: str, codes: Sequence[str]) -> _Side:
    parts: TokenizerParts = imported.tokenizer
    file = parts.files[model]
    name = file.name if isinstance(file, Path) else model
    pieces = frozenset(json.loads(contents_of(parts.files[vocabulary])))
    return _Side(name, open_model(contents_of(file), name), pieces, tuple(_sentences(imported, codes)))


def _sentences(imported: Imported, codes: Sequence[str]) -> list[str]:
    tag_of, found = tagger(imported), dict[str, None]()
    for code in codes:
        try:
            language = built_in_language(tag_of(code))
        except InvalidInput:  # `BundleTokenizer` refuses it
            continue
        if language:
            found |= dict.fromkeys(CALIBRATION[language])
    return list(found)
