"""From text to ids. A text is split into pieces, by SentencePiece or simpler, which are looked up in a vocabulary."""

from __future__ import annotations

import itertools
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sentencepiece

from dragoman_service.bundle.tokenizers.decoding import SPACE, LeadingSpaces
from dragoman_service.errors import InvalidInput

Spans = list[tuple[int, int]]


def open_model(data: bytes, field: str) -> Any:
    """Open a SentencePiece model.

    Args:
        data: The bytes of its file.
        field: The name for messages.

    Raises:
        InvalidInput: not a SentencePiece model.
    """
    try:
        # Empty bytes would load without an error and fail at the first use.
        model = sentencepiece.SentencePieceProcessor(model_proto=data or b"\0")
        pieces_of(model)  # else a piece that is not UTF-8 would fail in the text that has it
    except (RuntimeError, UnicodeDecodeError) as error:
        raise InvalidInput(field, f"{len(data)} bytes", "a SentencePiece model") from error
    return model


def pieces_of(model: Any) -> list[str]:
    """The pieces of a SentencePiece model, in the order of their ids."""
    ids = range(model.get_piece_size())
    return [model.id_to_piece(i) for i in ids]


def byte_ids(model: Any, pieces: Mapping[int, str]) -> dict[int, int]:
    """Id -> byte, of those `pieces` that are byte pieces of a SentencePiece model."""
    named = {f"<0x{byte:02X}>": byte for byte in range(256)}
    found = {piece: byte for piece, byte in named.items() if model.is_byte(model.piece_to_id(piece))}
    return {i: found[piece] for i, piece in pieces.items() if piece in found} if found else {}


def leading_spaces(model: Any) -> LeadingSpaces:
    """Which spaces a SentencePiece model drops at the beginning of a text, as it shows by decoding."""
    ordinary = (model.id_to_piece(i) for i in range(model.get_piece_size()) if not _is_special(model, i))
    plain = next((piece for piece in ordinary if SPACE not in piece), None)
    if plain is not None and model.id_to_piece(model.piece_to_id(SPACE)) == SPACE:
        kept = len(model.decode([SPACE, SPACE, plain])) - len(model.decode([plain]))
        if not 0 <= kept <= 2:
            raise InvalidInput("tokenizer", f"{kept} of 2 spaces kept", "a SentencePiece model that changes no spaces")
        return (LeadingSpaces.DROP_ALL, LeadingSpaces.DROP_FIRST, LeadingSpaces.KEEP)[kept]
    # Without a piece that is a lone space, all spaces and the first one are the same.
    spaced = next((piece for piece in pieces_of(model) if piece.startswith(SPACE)), None)
    keep = spaced is None or model.decode([spaced]).startswith(" ")
    return LeadingSpaces.KEEP if keep else LeadingSpaces.DROP_ALL


def check_text(text: str) -> None:
    """Raise InvalidInput if a text has a lone surrogate."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("text", text, "Unicode text without lone surrogates") from error


class TextEncoder(ABC):
    """Text to ids, of one side of a model."""

    fallback_ids: frozenset[int]
    """See `protocol.Tokenizer`."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """The ids of a text."""

    @abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids of each text."""

    @abstractmethod
    def encode_with_offsets(self, text: str) -> tuple[list[int], Spans]:
        """The ids of a text, and the span of each: see `protocol.Tokenizer`."""


class ModelEncoder(TextEncoder):
    """The ids of a SentencePiece model, renumbered."""

    def __init__(self, model: Any, renumbered: Sequence[int] | None = None) -> None:
        """`renumbered` has the id for each id of the model; None leaves them as they are."""
        self._model = model
        self._renumbered = renumbered
        unspelled = [model.unk_id(), *_bytes_beyond_ascii(dict(enumerate(pieces_of(model))), model.is_byte)]
        self.fallback_ids = frozenset(self._ids(unspelled))

    def encode(self, text: str) -> list[int]:
        check_text(text)
        return self._ids(self._model.encode(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            check_text(text)
        return [self._ids(ids) for ids in self._model.encode(list(texts))]

    def encode_with_offsets(self, text: str) -> tuple[list[int], Spans]:
        check_text(text)
        ids, _, spans = _split_by_model(self._model, text)
        return self._ids(ids), spans

    def _ids(self, ids: list[int]) -> list[int]:
        return ids if self._renumbered is None else [self._renumbered[i] for i in ids]


class PieceEncoder(TextEncoder):
    """Pieces of text that are looked up in a vocabulary.

    SentencePiece returns characters that its model lacks as they are, and the vocabulary may have them nevertheless.
    """

    def __init__(self, splitter: Splitter, ids: Mapping[str, int], unknown: int) -> None:
        """`ids` must not have the special tokens: a run of unknown characters may look like one."""
        self._splitter = splitter
        self._ids = ids
        self._unknown = unknown
        named = {i: piece for piece, i in ids.items()}
        self.fallback_ids = frozenset([unknown, *_bytes_beyond_ascii(named, lambda i: True)])

    def encode(self, text: str) -> list[int]:
        check_text(text)
        return self._look_up(self._splitter.split(text))

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        for text in texts:
            check_text(text)
        return [self._look_up(pieces) for pieces in self._splitter.split_batch(texts)]

    def encode_with_offsets(self, text: str) -> tuple[list[int], Spans]:
        check_text(text)
        pieces, spans = self._splitter.split_with_offsets(text)
        return self._look_up(pieces), spans

    def _look_up(self, pieces: Iterable[str]) -> list[int]:
        return [self._ids.get(piece, self._unknown) for piece in pieces]


class Splitter(ABC):
    """Text to pieces."""

    @abstractmethod
    def split_with_offsets(self, text: str) -> tuple[list[str], Spans]:
        """The pieces of a text, and the span of each."""

    def split(self, text: str) -> list[str]:
        """The pieces of a text."""
        return self.split_with_offsets(text)[0]

    def split_batch(self, texts: Sequence[str]) -> list[list[str]]:
        """The pieces of each text."""
        return [self.split(text) for text in texts]


class ModelSplitter(Splitter):
    """The pieces of a SentencePiece model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def split(self, text: str) -> list[str]:
        pieces: list[str] = self._model.encode(text, out_type=str)
        return pieces

    def split_batch(self, texts: Sequence[str]) -> list[list[str]]:
        pieces: list[list[str]] = self._model.encode(list(texts), out_type=str)
        return pieces

    def split_with_offsets(self, text: str) -> tuple[list[str], Spans]:
        _, pieces, spans = _split_by_model(self._model, text)
        return pieces, spans


class PatternSplitter(Splitter):
    """Every match of a pattern is a piece."""

    def __init__(self, pattern: str) -> None:
        self._pattern = re.compile(pattern)

    def split_with_offsets(self, text: str) -> tuple[list[str], Spans]:
        matches = list(self._pattern.finditer(text))
        return [it.group() for it in matches], [it.span() for it in matches]


def _split_by_model(model: Any, text: str) -> tuple[list[int], list[str], Spans]:
    found = model.encode(text, out_type="offset_mapping")
    pieces, spans = found["pieces"], found["offsets"]
    added = bool(pieces) and pieces[0] == SPACE and spans[0] == (0, 0)
    # Of pieces that share a character, SentencePiece gives it to the last, and nothing to those before.
    for later, here in itertools.pairwise(range(len(spans) - 1, -1 + added, -1)):
        start, end = spans[here]
        if start == end == spans[later][0]:
            spans[here] = (start, spans[later][1])
    return found["ids"], pieces, spans


def _bytes_beyond_ascii(pieces: Mapping[int, str], is_byte: Callable[[int], bool]) -> list[int]:
    """The ids of byte pieces of characters beyond ASCII. That of an ASCII character is a character as any other."""
    named = {f"<0x{byte:02X}>" for byte in range(0x80, 0x100)}
    return [i for i, piece in pieces.items() if piece in named and is_byte(i)]


def _is_special(model: Any, i: int) -> bool:
    return bool(model.is_control(i) or model.is_unknown(i) or model.is_byte(i))
