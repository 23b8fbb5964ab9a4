"""The tokenizer of Dragoman's own models: a SentencePiece model (Kudo and Richardson 2018) with byte fallback.

Training and service use the same code. Models of other families have the tokenizers of `tokenizers`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dragoman_service.bundle.tokenizers.decoding import Detokenizer
from dragoman_service.bundle.tokenizers.encoding import ModelEncoder, byte_ids, leading_spaces, open_model, pieces_of
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.bundle.tokenizers.subwords import Language, Parts, SubwordTokenizer, Template
from dragoman_service.errors import InvalidInput

SPECIAL_IDS = {"pad_id": 0, "begin_id": 1, "end_id": 2, "unknown_id": 3}
"""Ids of padding, begin of sentence, end of sentence and the unknown token in every tokenizer of Dragoman."""

ANY_LANGUAGE = ""
"""The source language where none is known: a `Tokenizer` of this module does not read it."""

_TARGET_TAG = re.compile(r"<2([a-z]{2,3}(?:-[A-Za-z0-9]+)*)>")


def target_tag(language: str) -> str:
    """The special piece that selects the target language of a multilingual model (Johnson et al. 2017)."""
    return f"<2{language}>"


class Tokenizer(SubwordTokenizer):
    """A SentencePiece model with byte fallback: every character has ids, so nothing is out of vocabulary.

    Encoding first normalises the text (SentencePiece's `nmt_nfkc`, which the model file contains), which is lossy:
    - NFKC folds compatibility characters: a ligature becomes its letters.
    - Any whitespace becomes a space, as do the zero-width space and non-joiner, the marks of writing direction, the
      byte order mark, U+FFFD and U+2581.
    - Several spaces become one, and those at either end are removed.
    - The control characters U+0001 to U+001F that are not whitespace, U+007F, U+008F and U+009F are removed.
    A text of removed characters alone has no ids. `decode(encode(text))` returns the normalised text.

    Special ids are left out of decoded text, but for the unknown one. The methods are those of
    `tokenizers.protocol.Tokenizer`.
    """

    def __init__(self, model: Path | bytes) -> None:
        """Read a SentencePiece model from a file or from its bytes.

        Raises:
            InvalidInput: not a SentencePiece model, or one without byte fallback or without the ids of `SPECIAL_IDS`.
            OSError: the file cannot be read.
        """
        self._model = model if isinstance(model, bytes) else model.read_bytes()
        self._opened = opened = open_model(self._model, "tokenizer")
        _check_special_ids(opened)
        pieces = dict(enumerate(pieces_of(opened)))
        bytes_of = byte_ids(opened, pieces)
        if len(bytes_of) != 256:
            raise InvalidInput("tokenizer", f"{len(bytes_of)} byte pieces", "256: train it with byte_fallback")
        special = SpecialIds(*SPECIAL_IDS.values())
        controls = {i: piece for i, piece in pieces.items() if opened.is_control(i)}
        self.target_tags = {match[1]: i for i, piece in controls.items() if (match := _TARGET_TAG.fullmatch(piece))}
        """Target language -> the id of its tag; empty for a model of one target language."""
        encoder = ModelEncoder(opened)
        detokenizer = Detokenizer(
            size=len(pieces),
            pieces=pieces,
            silent=controls.keys(),
            bytes=bytes_of,
            verbatim={special.unknown: opened.decode([special.unknown])},
            leading=leading_spaces(opened),
        )
        template = Template(before=(Language.TARGET,) if self.target_tags else (), after=(special.end,))
        parts = Parts(encoder, encoder, detokenizer, special, template, len(pieces), self.target_tags)
        super().__init__("dragoman", parts, hashlib.sha256(self._model).hexdigest())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target ids: see `protocol.Tokenizer`. SentencePiece gives the same as the detokenizer, sooner."""
        try:
            text: str = self._opened.decode(list(ids))
        except IndexError:  # the detokenizer names the id
            return super().decode(ids)
        return text

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        """A tokenizer is pickled as its file."""
        return Tokenizer, (self._model,)


def _check_special_ids(model: Any) -> None:
    ids = (model.pad_id(), model.bos_id(), model.eos_id(), model.unk_id())
    if ids != tuple(SPECIAL_IDS.values()):
        raise InvalidInput("tokenizer", f"padding, begin, end, unknown = {ids}", str(tuple(SPECIAL_IDS.values())))
