"""Splits text into sentences to translate and pieces to copy, without loss.

`"".join(piece.text for piece in segment(text, language)) == text`, always.
"""

from __future__ import annotations

import enum
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from dragoman_service.errors import InvalidInput
from dragoman_service.text.abbreviations import abbreviations_of, primary_language
from dragoman_service.text.characters import CONTROL, LONGEST_CLUSTER, extends, is_border, word_set
from dragoman_service.text.lines import joined_lines
from dragoman_service.text.sentences import sentence_ends
from dragoman_service.text.spans import Kind, Span, find_spans

_CONTROL_CHARACTER = re.compile(f"[{CONTROL}]")
_CLAUSE_END = re.compile(r"[,;:)\]»”–—](?=\s)|[、，；：。）」』，؛]")
_SPACE = re.compile(r"\s+")
_LONGEST = 2_000
"""Characters of the longest text that is encoded. A longer one is halved before, which bounds the work of one step."""
_EDGE_KINDS = (Kind.SYMBOL, Kind.INVISIBLE, Kind.SPACE)
_BULLET = re.compile(r"[-–—*>+]{1,3}(?=\s)")
_LIST_NUMBER = re.compile(r"(?:#{1,6}|[0-9]{1,3}\)|(?P<ordinal>[0-9]{1,3}\.))(?=\s)")
"""What stands before the first sentence of a line."""
_TAG_NAME = re.compile(r"<(?P<closes>/?)(?P<name>[\w:.-]++)[^>]*?(?P<empty>/?)>")
_EMPTY_TAGS = word_set("area base br col embed hr img input link meta source track wbr")


class Splitting(enum.Enum):
    """Where a text is split."""

    SENTENCES = "sentences"
    """At the ends of sentences and of lines."""
    LINES = "lines"
    """At the ends of lines, and at other control characters."""
    NONE = "none"
    """Nowhere: the text is one sentence, and its line breaks are spans."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A substring of the text."""

    text: str
    translatable: bool
    """False for white space, control characters, symbols, and all else that is copied."""
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
    start: int = 0
    """Where the piece begins in the sentence that was encoded."""
    spans: tuple[Span, ...] = ()
    """As those of `Piece`."""
    replacement: str | None = None
    """What is written in place of a piece that is copied; None: its text."""

    @property
    def output(self) -> str:
        """What is written in place of a piece that is copied."""
        return self.text if self.replacement is None else self.replacement

    def written(self, translation: str) -> str:
        """A translation of the tokens, or a part of one, on one line and in capitals if `capitals`."""
        line = on_one_line(translation)
        return line.upper() if self.capitals else line


def segment(text: str, language: str) -> list[Piece]:
    """All pieces of a text; see `pieces_of`."""
    return list(pieces_of(text, language))


def pieces_of(
    text: str,
    language: str,
    *,
    splitting: Splitting = Splitting.SENTENCES,
    join_lines: bool = False,
    marked: Sequence[tuple[int, int]] = (),
) -> Iterator[Piece]:
    """Split a text into sentences and the pieces between them. The time is linear in the text.

    A sentence has no spaces, symbols or marks of lists around it, and a letter outside its spans; all else is pieces
    that are not translatable. No piece divides a span or a grapheme cluster of usual length.

    Args:
        text: Any text.
        language: A code such as "de" or "de-AT". Abbreviations and ordinals depend on it.
        splitting: Where to split. Unless it is NONE, no piece with a letter has a control character outside `marked`.
        join_lines: Whether the lines of a paragraph are joined first (`joined_lines`). The pieces are then those of the
            joined text, and only their `start` is that of the source.
        marked: Start and end of what the caller says is to be kept.
    """
    if join_lines:
        joined = joined_lines(text, marked)
        ranges = [(joined.index_of(start), joined.index_of(end)) for start, end in marked]
        for piece in _pieces(joined.text, language, splitting, ranges):
            yield replace(piece, start=joined.source_of(piece.start))
    else:
        yield from _pieces(text, language, splitting, marked)


def _pieces(text: str, language: str, splitting: Splitting, marked: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    spans = find_spans(text, marked)
    trimmer = _Trimmer(text, language, spans)
    for begin, end, first, last in _lines(text, spans, whole=splitting is Splitting.NONE):
        start = begin
        if splitting is Splitting.SENTENCES:
            for cut in sentence_ends(text, begin, end, language, spans[first:last]):
                yield from trimmer.pieces(start, cut, opens_line=start == begin)
                start = cut
        yield from trimmer.pieces(start, end, opens_line=start == begin)


def _lines(text: str, spans: Sequence[Span], *, whole: bool) -> Iterator[tuple[int, int, int, int]]:
    """The parts between control characters, and these: start, end, and the numbers of their spans."""
    begin, first = 0, 0
    for number, span in enumerate(spans):
        control = span.kind in (Kind.SPACE, Kind.INVISIBLE) and _CONTROL_CHARACTER.search(text, span.start, span.end)
        if control and not whole:
            if begin < span.start:
                yield begin, span.start, first, number
            yield span.start, span.end, number, number + 1
            begin, first = span.end, number + 1
    if begin < len(text):
        yield begin, len(text), first, len(spans)


class _Trimmer:
    """Divides sentences into what is translated and what is copied around it."""

    def __init__(self, text: str, language: str, spans: Sequence[Span]) -> None:
        self._text = text
        self._ordinals = abbreviations_of(primary_language(language)).ordinals
        self._spans = spans
        self._starts = [span.start for span in spans]
        self._partners = _partners(text, spans)

    def pieces(self, begin: int, end: int, *, opens_line: bool) -> Iterator[Piece]:
        """The pieces of a sentence, which has whole spans only."""
        if begin == end:
            return
        text = self._text
        first, last = bisect_left(self._starts, begin), bisect_left(self._starts, end)
        start, stop = begin, end
        while True:
            before = start, stop
            start, first = self._trim_start(start, stop, first, last)
            if opens_line and (number := _LIST_NUMBER.match(text, start, stop)):
                opens_line = False
                if not (number["ordinal"] and self._ordinals):
                    start = number.end()
            if (bullet := _BULLET.match(text, start, stop)) and not self._begins_at(first, start):
                start = bullet.end()
            stop, last = self._trim_stop(start, stop, first, last)
            if first < last and self._encloses(first, last - 1, start, stop):
                start, stop = self._spans[first].end, self._spans[last - 1].start
                first, last = first + 1, last - 1
            if (start, stop) == before:
                break
        inside = self._spans[first:last]
        if not _has_letter(text, start, stop, inside):
            yield Piece(text[begin:end], translatable=False, start=begin)
            return
        if begin < start:
            yield Piece(text[begin:start], translatable=False, start=begin)
        yield Piece(text[start:stop], translatable=True, start=start, spans=_relative(inside, start))
        if stop < end:
            yield Piece(text[stop:end], translatable=False, start=stop)

    def _begins_at(self, number: int, index: int) -> bool:
        return number < len(self._spans) and self._spans[number].start == index

    def _trim_start(self, start: int, stop: int, first: int, last: int) -> tuple[int, int]:
        text, begin = self._text, start
        while start < stop:
            if first < last and self._spans[first].start == start:
                span = self._spans[first]
                if not (self._is_edge(first, first, last) and is_border(text, span.end)):
                    break
                start, first = span.end, first + 1
            elif text[start].isspace() or (start > begin and extends(text[start])):
                start += 1
            else:
                break
        while start > begin and not is_border(text, start):
            start -= 1  # to the space that has an accent
        return start, first

    def _trim_stop(self, start: int, stop: int, first: int, last: int) -> tuple[int, int]:
        text = self._text
        while start < stop:
            if first < last and self._spans[last - 1].end == stop:
                span = self._spans[last - 1]
                if not (self._is_edge(last - 1, first, last) and is_border(text, span.start)):
                    break
                stop, last = span.start, last - 1
            elif text[stop - 1].isspace() and is_border(text, stop):
                stop -= 1
            else:
                break
        return stop, last

    def _is_edge(self, number: int, first: int, last: int) -> bool:
        """Whether a span at the edge of a sentence is copied apart: signs, and tags whose partner is elsewhere."""
        span = self._spans[number]
        if span.kind is not Kind.TAG:
            return span.kind in _EDGE_KINDS
        partner = self._partners.get(number)
        return partner is None or not first <= partner < last

    def _encloses(self, first: int, last: int, start: int, stop: int) -> bool:
        """Whether two tags are a pair that encloses all of a sentence."""
        pair = self._partners.get(first) == last
        return pair and self._spans[first].start == start and self._spans[last].end == stop


def _has_letter(text: str, start: int, stop: int, spans: Sequence[Span]) -> bool:
    """Whether there is a letter outside the spans."""
    for span in spans:
        if any(map(str.isalpha, text[start : span.start])):
            return True
        start = span.end
    return any(map(str.isalpha, text[start:stop]))


def _partners(text: str, spans: Sequence[Span]) -> dict[int, int]:
    """Number of a tag -> number of the tag that closes or opens it."""
    partners: dict[int, int] = {}
    opened: dict[str, list[int]] = {}
    for number, span in enumerate(spans):
        if span.kind is not Kind.TAG:
            continue
        tag = text[span.start : span.end]
        element = _TAG_NAME.fullmatch(tag)
        if element is not None:
            name, closes, opens = element["name"], bool(element["closes"]), not element["empty"]
            opens = opens and name.lower() not in _EMPTY_TAGS
        else:
            name = "link" if tag[-1] in "[)" else tag
            closes = tag[-1] == ")" or (tag[0] in "*~" and bool(opened.get(name)))
            opens = tag[0] in "*~[!"
        if closes and opened.get(name):
            partner = opened[name].pop()
            partners[partner], partners[number] = number, partner
        elif opens and not closes:
            opened.setdefault(name, []).append(number)
    return partners


def on_one_line(text: str) -> str:
    """A translated sentence with every control character replaced by a space.

    A model with byte pieces can produce control characters that the source did not have. A line break among them would
    shift all following lines. Each character is replaced by one, so the pieces of a stream can be converted separately.
    """
    return _CONTROL_CHARACTER.sub(" ", text)


def encode_to_fit(
    sentence: str, encode: Callable[[str], Sequence[int]], limit: int, spans: Sequence[Span] = ()
) -> Iterator[EncodedPiece]:
    """Encode a sentence, which is halved until every part has at most `limit` tokens.

    A part is cut at the end of a clause, else between words, else between characters, as near its middle as possible:
    equal halves translate better than a long part and a short one. It is never cut inside a span, and what has no
    letter outside its spans is not encoded.

    Args:
        sentence: Text of a translatable piece.
        encode: From text to token ids.
        limit: Most tokens of a part.
        spans: Those of the piece.

    Raises:
        InvalidInput: one character has more than `limit` tokens.
    """
    yield from _Halver(sentence, encode, limit, spans).parts(0, len(sentence))


class _Halver:
    """Encodes the parts of one sentence."""

    def __init__(self, text: str, encode: Callable[[str], Sequence[int]], limit: int, spans: Sequence[Span]) -> None:
        self._text = text
        self._encode = encode
        self._limit = limit
        self._spans = spans
        self._starts = [span.start for span in spans]

    def parts(self, begin: int, end: int) -> Iterator[EncodedPiece]:
        """The pieces of the text between two indices, neither of which is inside a span."""
        text = self._text[begin:end]
        first, last = bisect_left(self._starts, begin), bisect_left(self._starts, end)
        if len(text) <= _LONGEST:
            tokens = array("i", self._encode(text))  # an eighth of the memory of a tuple; a call may have millions
            if len(tokens) <= self._limit:
                yield EncodedPiece(text, tokens, start=begin, spans=_relative(self._spans[first:last], begin))
                return
            if len(text) < 2:
                allowed = f"characters of at most {self._limit} tokens; this one has {len(tokens)}"
                raise InvalidInput("text", text, allowed)
        cut = self._cut(begin, end)
        yield from self._trimmed(begin, cut)
        yield from self._trimmed(cut, end)

    def _trimmed(self, begin: int, end: int) -> Iterator[EncodedPiece]:
        """The parts of a half, without the space around it."""
        half = self._text[begin:end]
        start = end - len(half.lstrip())
        stop = max(start, begin + len(half.rstrip()))
        if begin < start:
            yield EncodedPiece(self._text[begin:start], (), start=begin)
        first, last = bisect_left(self._starts, start), bisect_left(self._starts, stop)
        if _has_letter(self._text, start, stop, self._spans[first:last]):
            yield from self.parts(start, stop)
        elif start < stop:
            inside = _relative(self._spans[first:last], start)
            yield EncodedPiece(self._text[start:stop], (), start=start, spans=inside)
        if stop < end:
            yield EncodedPiece(self._text[stop:end], (), start=stop)

    def _cut(self, begin: int, end: int) -> int:
        """The index at which to halve two characters or more, between them."""
        length = end - begin
        middle = begin + length // 2
        # Only clause ends in the middle half count: one near an end would make a very short part.
        clauses = _CLAUSE_END.finditer(self._text, begin + length // 4, begin + 3 * length // 4 + 1)
        spaces = _SPACE.finditer(self._text, begin, end)
        for places in ([match.end() for match in clauses], [match.start() for match in spaces]):
            for place in sorted(places, key=lambda place: abs(place - middle)):
                if begin < place < end and self._over(place) is None:
                    return place
        if (span := self._over(middle)) is not None:
            return span.start if begin < span.start else min(span.end, end - 1)
        between = range(middle, max(begin, middle - LONGEST_CLUSTER), -1)
        return next((place for place in between if is_border(self._text, place) and self._over(place) is None), middle)

    def _over(self, place: int) -> Span | None:
        """The span that a cut would divide."""
        number = bisect_left(self._starts, place) - 1
        return self._spans[number] if number >= 0 and self._spans[number].end > place else None


def _relative(spans: Sequence[Span], begin: int) -> tuple[Span, ...]:
    return tuple(span.shifted(-begin) for span in spans)
