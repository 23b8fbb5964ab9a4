"""Splits text into sentences to translate and pieces to copy, without loss.

`"".join(piece.text for piece in segment(text, language)) == text`, always.
"""

from __future__ import annotations

import enum
import re
import unicodedata
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import sentencex

from dragoman_service.errors import InvalidInput
from dragoman_service.text.spans import Span

# Control characters, which include line breaks and tabs, and the two Unicode line breaks. The tokenizer's normaliser
# would turn them into spaces or remove them. Outside the sentences they are copied to the translation unchanged.
_CONTROL = "\x00-\x1f\x7f-\x9f\u2028\u2029"
_CONTROLS = re.compile(f"([{_CONTROL}]+)")
_CONTROL_CHARACTER = re.compile(f"[{_CONTROL}]")
_CLAUSE_END = re.compile(r"[,;:)\]»”–—](?=\s)|[、，；：。）」』،؛]")
_SPACE = re.compile(r"\s+")
_SPACE_CHARACTER = re.compile(r"\s")
_WINDOW = 2_000
"""Characters that are split into sentences at a time."""
_MARGIN = 500
"""Characters at the end of a window whose sentences are left to the next one."""
_STRAIGHT_MARK = '"'
_ZERO_WIDTH_JOINER = "\u200d"
_LONGEST_CLUSTER = 32
"""Most characters of a grapheme cluster. Longer sequences of joined characters are not text and are cut anywhere."""


class Splitting(enum.Enum):
    """Where a text is split."""

    SENTENCES = "sentences"
    LINES = "lines"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Piece:
    """A substring of the text."""

    text: str
    translatable: bool
    """False for white space, control characters and symbols, which are copied."""
    start: int = 0
    """Where the piece begins in the source text."""
    spans: tuple[Span, ...] = ()
    """What is kept inside a translatable piece; offsets are relative to the piece."""


@dataclass(frozen=True, slots=True)
class EncodedPiece:
    """A piece with its tokens, short enough for the model."""

    text: str
    tokens: Sequence[int]
    """Token ids without the end of the sentence; empty for a piece that is copied."""
    capitals: bool = False
    """Whether the text was lowered before encoding, so that its translation is put in capitals."""

    def written(self, translation: str) -> str:
        """A translation of the tokens, or a part of one, on one line and in capitals if `capitals`."""
        line = on_one_line(translation)
        return line.upper() if self.capitals else line


def segment(text: str, language: str) -> list[Piece]:
    """All pieces of a text; see `pieces_of`."""
    return list(pieces_of(text, language))


def pieces_of(text: str, language: str) -> Iterator[Piece]:
    """Split a text into sentences and the pieces between them.

    A sentence never extends across a line break or another control character. A piece without a letter or a digit
    ("***", emoji) is not translatable.
    """
    for index, part in enumerate(_CONTROLS.split(text)):
        if index % 2:
            yield Piece(part, translatable=False)
            continue
        for sentence in _sentences(part, language):
            yield from _trimmed(sentence)


def _sentences(text: str, language: str) -> Iterator[str]:
    """Split a text without control characters into sentences.

    sentencex gets a bounded number of characters at a time, because its time grows with their square for some texts,
    and it holds the interpreter. A window begins where a sentence begins, and half of it or more is done.
    """
    begin = 0
    while begin < len(text):
        window = _window(text, begin)
        lengths = _lengths(window, language)
        if begin + len(window) < len(text):
            lengths = _decided(text, begin, lengths)
        for length in lengths:
            yield text[begin : begin + length]
            begin += length


def _window(text: str, begin: int) -> str:
    """The characters that are split next.

    sentencex takes no quotation mark for one if a text has an odd number of straight ones. So where one opens a
    quotation that ends after the window, the window ends before it.
    """
    window = text[begin : begin + _WINDOW]
    last = window.rfind(_STRAIGHT_MARK, _WINDOW - _MARGIN)
    if last > 0 and begin + len(window) < len(text) and window.count(_STRAIGHT_MARK) % 2:
        return window[:last]
    return window


def _decided(text: str, begin: int, lengths: list[int]) -> list[int]:
    """The lengths of the sentences of a window that the text after it would not change: half of the window or more.

    Sentences near the end are left to the next window. What joins them may lie after this one: the end of a quotation,
    or the month after "12.".

    Args:
        text: All of the text.
        begin: Where the window begins.
        lengths: The lengths of the sentences of the window, which is not the last one.
    """
    *ends, length = accumulate(lengths)
    half = length // 2
    kept = bisect_right(ends, length - _MARGIN)
    if not kept or ends[kept - 1] < half:
        kept = bisect_left(ends, half) + 1
    if kept <= len(ends):
        return lengths[:kept]
    unused = begin + length - _last_cut(text, begin + half, begin + length)
    return [*lengths[:-1], lengths[-1] - unused]


def _last_cut(text: str, start: int, end: int) -> int:
    """The last index up to `end` at which to cut a text: after a space, else after a clause, else a character."""
    for pattern in (_SPACE, _CLAUSE_END):
        if ends := [match.end() for match in pattern.finditer(text, start, end)]:
            return ends[-1]
    between = range(end, end - _LONGEST_CLUSTER, -1)
    return next((place for place in between if not _belongs_to_previous(text, place)), end)


def _lengths(text: str, language: str) -> list[int]:
    """The lengths of the sentences of a text. It is one sentence if sentencex fails.

    sentencex 1.0.32 takes every white-space character for one byte and panics if one is longer. Therefore every one is
    replaced by a space before the call.
    """
    shown = _SPACE_CHARACTER.sub(" ", text)
    try:
        lengths = [len(sentence) for sentence in sentencex.segment(language, shown)]
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # a Rust panic: not a subclass of Exception, cannot be imported
            raise
        lengths = []
    return lengths if sum(lengths) == len(text) else [len(text)]


def on_one_line(text: str) -> str:
    """A translated sentence with every control character replaced by a space.

    A model with byte pieces can produce control characters that the source did not have. A line break among them would
    shift all following lines. Each character is replaced by one, so the pieces of a stream can be converted separately.
    """
    return _CONTROL_CHARACTER.sub(" ", text)


def encode_to_fit(sentence: str, encode: Callable[[str], Sequence[int]], limit: int) -> Iterator[EncodedPiece]:
    """Encode a sentence, which is halved until every part has at most `limit` tokens.

    A part is cut at the end of a clause, else between words, else between characters, as near its middle as possible:
    equal halves translate better than a long part and a short one.

    Raises:
        InvalidInput: one character has more than `limit` tokens.
    """
    tokens = array("i", encode(sentence))  # an eighth of the memory of a tuple; a call may have millions of tokens
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
    """The text as one piece, and the white space around it as separate pieces."""
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
    """The index at which to halve a text of two characters or more: 1 to `len(text) - 1`."""
    middle = len(text) // 2
    # Only clause ends in the middle half count: one near an end would make a very short part.
    clauses = [match.end() for match in _CLAUSE_END.finditer(text, len(text) // 4, 3 * len(text) // 4 + 1)]
    spaces = [match.start() for match in _SPACE.finditer(text)]
    for places in (clauses, spaces):
        inside = [place for place in places if 0 < place < len(text)]
        if inside:
            return min(inside, key=lambda place: abs(place - middle))
    between = range(middle, max(0, middle - _LONGEST_CLUSTER), -1)
    return next((place for place in between if not _belongs_to_previous(text, place)), middle)


def _belongs_to_previous(text: str, index: int) -> bool:
    """Whether the character at `index` forms one grapheme with the one before it (accents, joined emoji)."""
    joined = _ZERO_WIDTH_JOINER in text[index - 1 : index + 1]
    return joined or unicodedata.category(text[index]).startswith("M")
