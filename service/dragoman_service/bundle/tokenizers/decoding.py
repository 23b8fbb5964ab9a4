"""From target ids to text: whole, with offsets, or as a stream."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from dragoman_service.errors import InvalidInput

SPACE = "▁"
"""How SentencePiece writes a space in a piece."""

UNUSED = "<unused>"
"""How an id without a piece is shown."""

_REPLACEMENT = "\ufffd"


class LeadingSpaces(enum.Enum):
    """Which spaces at the beginning of a text are no part of it."""

    KEEP = enum.auto()
    DROP_FIRST = enum.auto()
    """The one that SentencePiece put in front of the text (`add_dummy_prefix`)."""
    DROP_ALL = enum.auto()
    """One of each piece, until a piece has something else (`remove_extra_whitespaces`)."""


@dataclass(frozen=True, slots=True)
class Detokenizer:
    """The text of each target id, and how texts are put together."""

    size: int
    """Number of ids."""
    pieces: Mapping[int, str]
    """Id -> subword. Ids without one have no text."""
    silent: Set[int]
    """Special ids, which have no text."""
    bytes: Mapping[int, int] = field(default_factory=dict)
    """Id of a byte piece -> the byte."""
    verbatim: Mapping[int, str] = field(default_factory=dict)
    """Id -> a text that is not made from the piece."""
    leading: LeadingSpaces = LeadingSpaces.KEEP
    escaped: bool = True
    """Whether `SPACE` in a piece means a space."""
    separator: str = ""
    """What stands in front of each piece."""

    def check(self, ids: Iterable[int]) -> None:
        """Raise InvalidInput if an id is outside the vocabulary."""
        for i in ids:
            if not 0 <= i < self.size:
                raise InvalidInput("token id", i, f"0 to {self.size - 1}")

    def shown(self, ids: Sequence[int]) -> list[str]:
        """The subword of each id."""
        self.check(ids)
        return [self.pieces.get(i, UNUSED) for i in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids."""
        return "".join(text for text, _ in self._runs(ids))

    def decode_with_offsets(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        """The text of ids, and the span of each id in it."""
        texts, spans, start = [], [], 0
        for text, count in self._runs(ids):
            texts.append(text)
            spans += [(start, start + len(text))] * count
            start += len(text)
        return "".join(texts), spans

    def surface(self, i: int) -> str:
        """The text of an id, its leading space included."""
        piece = self.pieces.get(i)
        if piece is None or i in self.silent:
            return ""
        return self.separator + (piece.replace(SPACE, " ") if self.escaped else piece)

    def _runs(self, ids: Sequence[int]) -> Iterator[tuple[str, int]]:
        stream = PieceStream(self)
        yield from stream.push_runs(ids)
        yield from stream.flush_runs()


class PieceStream:
    """The state between two ids of a text. It decides what a text is, whether its ids come at once or one by one.

    Ids cannot be decoded alone, for two reasons. A character outside the vocabulary consists of several byte pieces.
    The space before the first word is not part of the text, but the space before a later word is.
    """

    def __init__(self, detokenizer: Detokenizer) -> None:
        self._detokenizer = detokenizer
        self._leading = detokenizer.leading
        self._bytes = bytearray()
        """Byte pieces that may be the beginning of a character."""

    def push(self, ids: Sequence[int]) -> str:
        """See `protocol.StreamDecoder`."""
        return "".join(text for text, _ in self.push_runs(ids))

    def flush(self) -> str:
        """See `protocol.StreamDecoder`."""
        return "".join(text for text, _ in self.flush_runs())

    def push_runs(self, ids: Sequence[int]) -> list[tuple[str, int]]:
        """Add ids. Returns what they complete: texts, each with the number of ids that it is made of."""
        self._detokenizer.check(ids)
        runs: list[tuple[str, int]] = []
        for i in ids:
            byte = self._detokenizer.bytes.get(i)
            if byte is not None:
                self._bytes.append(byte)
                runs += self._characters(more=True)
                continue
            if self._bytes:
                runs += self._characters(more=False)
            runs.append((self._text(i), 1))
        return runs

    def flush_runs(self) -> list[tuple[str, int]]:
        """End the text. Returns what is left of it, as `push_runs` does."""
        return list(self._characters(more=False))

    def _text(self, i: int) -> str:
        detokenizer = self._detokenizer
        if (verbatim := detokenizer.verbatim.get(i)) is not None:
            self._leading = LeadingSpaces.KEEP
            return verbatim
        text = detokenizer.surface(i)
        if self._leading is not LeadingSpaces.KEEP and text:
            only_one = self._leading is LeadingSpaces.DROP_FIRST
            rest = text.removeprefix(" ")
            if rest or (only_one and rest != text):
                self._leading = LeadingSpaces.KEEP
            return rest
        return text

    def _characters(self, *, more: bool) -> Iterator[tuple[str, int]]:
        """Take characters off the bytes. With `more`, a character that may still become whole is left."""
        while self._bytes:
            length = _utf8_length(self._bytes[0])
            if more and length > len(self._bytes):
                return
            try:
                character = self._bytes[:length].decode() if length else _REPLACEMENT
            except UnicodeDecodeError:
                character, length = _REPLACEMENT, 1
            length = max(length, 1)
            del self._bytes[:length]
            self._leading = LeadingSpaces.KEEP
            yield character, length


def _utf8_length(lead: int) -> int:
    """Bytes of the character that a byte begins (RFC 3629, section 4); 0 if it begins none."""
    if lead < 0x80:
        return 1
    return 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0
