"""The kind `marian`: Marian and OPUS-MT, with two SentencePiece models whose pieces are looked up in a vocabulary."""

from __future__ import annotations

import re
from collections.abc import Mapping

from dragoman_service.bundle.tokenizers.decoding import Detokenizer
from dragoman_service.bundle.tokenizers.encoding import (
    ModelSplitter,
    PieceEncoder,
    byte_ids,
    leading_spaces,
    pieces_of,
)
from dragoman_service.bundle.tokenizers.given import Given
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.bundle.tokenizers.subwords import Language, Parts, Template
from dragoman_service.errors import InvalidInput

END, UNKNOWN, PAD = "</s>", "<unk>", "<pad>"
_SPECIAL = re.compile(r"</s>|<unk>|<pad>|<s>|>>.+<<")
"""The special tokens and the tags of target languages, such as `>>deu<<`."""


def read(given: Given) -> Parts:
    """Read the files.

    - The decoder begins with padding, unless the setting `begin_token` names another piece. A target vocabulary without
      padding, as Marian writes it, gets it behind the last id: Marian begins with a vector of zeros, which an importer
      appends to the table.
    - The tag of the target language comes from the request alone. What looks like a tag in a text is text.
    - OPUS-MT prepares texts with a script of its own before SentencePiece (full-width punctuation, invisible spaces).
      This is not done here: the models in Hugging Face's layout are used without it too.

    Raises:
        InvalidInput: see `loading.load_tokenizer`.
    """
    source_model, target_model = given.model("source_model"), given.model("target_model")
    shared = "vocabulary" in given.files and "target_vocabulary" not in given.files
    if "vocabulary" in given.files:
        source_ids = given.vocabulary("vocabulary")
    else:
        source_ids = _numbered(pieces_of(source_model))
        shared = given.files["source_model"] == given.files["target_model"]
    if "target_vocabulary" in given.files:
        target_ids = given.vocabulary("target_vocabulary")
    else:
        target_ids = source_ids if shared else _numbered(pieces_of(target_model))
    target_ids.setdefault(PAD, max(target_ids.values()) + 1)
    for name, ids in (("vocabulary", source_ids), ("target_vocabulary", target_ids)):
        for piece in (END, UNKNOWN):
            if piece not in ids:
                raise InvalidInput(f"tokenizer.files.{name}", f"no {piece}", f"pieces among which are {END}, {UNKNOWN}")
    tags = {piece[2:-2]: i for piece, i in source_ids.items() if piece.startswith(">>") and piece.endswith("<<")}
    languages = given.known_languages(tags, f"a code with a tag in the vocabulary: {', '.join(tags) or 'none'}")
    pieces = {i: piece for piece, i in target_ids.items()}
    begin = given.text("begin_token", PAD)
    if begin not in target_ids:
        raise InvalidInput("tokenizer.settings.begin_token", begin, "a piece of the target vocabulary")
    return Parts(
        source=PieceEncoder(ModelSplitter(source_model), _ordinary(source_ids), source_ids[UNKNOWN]),
        target=PieceEncoder(ModelSplitter(target_model), _ordinary(target_ids), target_ids[UNKNOWN]),
        detokenizer=Detokenizer(
            size=given.size("vocab_size", max(target_ids.values()) + 1),
            pieces=pieces,
            silent=frozenset(i for piece, i in target_ids.items() if _SPECIAL.fullmatch(piece)),
            bytes=byte_ids(target_model, pieces),
            leading=leading_spaces(target_model),
        ),
        special=SpecialIds(target_ids[PAD], target_ids[begin], target_ids[END], target_ids[UNKNOWN]),
        template=Template(before=(Language.TARGET,) if languages else (), after=(source_ids[END],)),
        source_vocab_size=given.size("source_vocab_size", max(source_ids.values()) + 1),
        source_languages=languages,
    )


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(pieces)}


def _ordinary(ids: Mapping[str, int]) -> dict[str, int]:
    return {piece: i for piece, i in ids.items() if not _SPECIAL.fullmatch(piece)}
