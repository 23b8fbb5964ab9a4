"""Splits text into what the model shall translate and what stays as it is, so that nothing is ever lost.

`"".join(piece.text for piece in segment(text, language)) == text`, always.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import sentencex

from dragoman_service.errors import InvalidInput

# Control characters (line breaks and tabs among them) and the two Unicode line breaks. No subword model knows them,
# and its normaliser would turn them into spaces: kept outside the sentences, they reach the translation as they were.
_CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029"
_CONTROLS = re.compile(f"([{_CONTROL}]+)")
_CONTROL_CHARACTER = re.compile(f"[{_CONTROL}]")
_CLAUSE_END = re.compile(r"[,;:)\]»”–—](?=\s)|[、，；：。）」』،؛]")
_SPACE = re.compile(r"\s+")
_SPACE_CHARACTER = re.compile(r"\s")
_ZERO_WIDTH_JOINER = "\u200d"
_LONGEST_CLUSTER = 32
"""Characters that a reader may see as one. What is joined for longer is no writing, and is cut anywhere."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of the text."""

    text: str
    translatable: bool
    """False: white space, control characters, or symbols that are copied as they are."""


@dataclass(frozen=True, slots=True)
class EncodedPiece:
    """A piece with its tokens, short enough for the model."""

    text: str
    tokens: tuple[int, ...]
    """Without the end of the sentence; empty for what is copied as it is."""
    capitals: bool = False
    """Whether the tokens are of the text in small letters, and the translation is wanted in capitals."""

    def written(self, translation: str) -> str:
        """A translation of the tokens, or a part of one, as it is to be written."""
        line = on_one_line(translation)
        return line.upper() if self.capitals else line


def segment(text: str, language: str) -> list[Piece]:
    """Split a text into sentences and what stands between them.

    Sentences never reach across a line break or another control character. What has neither a letter nor a digit
    ("***", emoji) is not translatable: a model has nothing to say about it.
    """
    pieces: list[Piece] = []
    for index, part in enumerate(_CONTROLS.split(text)):
        if index % 2:
            pieces.append(Piece(part, translatable=False))
            continue
        for sentence in _sentences(part, language):
            pieces.extend(_trimmed(sentence))
    return pieces


def _sentences(text: str, language: str) -> Iterator[str]:
    """Split a text without control characters; as one sentence if sentencex cannot.

    It takes every white space for one byte and panics where one is more (1.0.32), so it is shown others, one for one.
    """
    shown = _SPACE_CHARACTER.sub(" ", text)
    try:
        lengths = [len(sentence) for sentence in sentencex.segment(language, shown)]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, which is no Exception and cannot be imported
            raise
        lengths = []
    if sum(lengths) != len(text):
        lengths = [len(text)]
    begin = 0
    for length in lengths:
        yield text[begin : begin + length]
        begin += length


def on_one_line(text: str) -> str:
    """What a model made of a sentence, its control characters turned into spaces.

    The sentence had none, so they are an accident of a model that can spell any byte; a line break among them would
    shift all lines that follow. Character by character, so that it can be done to the pieces of a stream.
    """
    return _CONTROL_CHARACTER.sub(" ", text)


def encode_to_fit(sentence: str, encode: Callable[[str], Sequence[int]], limit: int) -> Iterator[EncodedPiece]:
    """Encode a sentence, split as often as it takes for every part to have at most `limit` tokens.

    Halves are cut where a clause ends, else between words, else between characters, as near the middle as possible:
    even halves translate better than a full part and a scrap. Raises InvalidInput if one character has too many tokens.
    """
    tokens = tuple(encode(sentence))
    if len(tokens) <= limit:
        yield EncodedPiece(sentence, tokens)
        return
    if len(sentence) < 2:
        raise InvalidInput("texts", sentence, f"characters of at most {limit} tokens; this one has {len(tokens)}")
    cut = _cut(sentence)
    for half in (sentence[:cut], sentence[cut:]):
        for piece in _trimmed(half):
            if piece.translatable:
                yield from encode_to_fit(piece.text, encode, limit)
            else:
                yield EncodedPiece(piece.text, ())


def _trimmed(text: str) -> Iterator[Piece]:
    """The text as one piece, with the white space around it as pieces of their own."""
    body = text.strip()
    if not any(character.isalnum() for character in body):
        if text:
            yield Piece(text, translatable=False)
        return
    start = text.index(body)
    if start:
        yield Piece(text[:start], translatable=False)
    yield Piece(body, translatable=True)
    if start + len(body) < len(text):
        yield Piece(text[start + len(body) :], translatable=False)


def _cut(text: str) -> int:
    """Where to halve a text of two characters or more: 1 to `len(text) - 1`."""
    middle = len(text) // 2
    # A clause end far from the middle would leave a scrap: only those in the middle half count.
    clauses = [match.end() for match in _CLAUSE_END.finditer(text, len(text) // 4, 3 * len(text) // 4 + 1)]
    spaces = [match.start() for match in _SPACE.finditer(text)]
    for places in (clauses, spaces):
        inside = [place for place in places if 0 < place < len(text)]
        if inside:
            return min(inside, key=lambda place: abs(place - middle))
    between = range(middle, max(0, middle - _LONGEST_CLUSTER), -1)
    return next((place for place in between if not _belongs_to_previous(text, place)), middle)


def _belongs_to_previous(text: str, index: int) -> bool:
    """Whether a reader sees the character at `index` as one with that before it (accents, joined emoji)."""
    joined = _ZERO_WIDTH_JOINER in text[index - 1 : index + 1]
    return joined or unicodedata.category(text[index]).startswith("M")
