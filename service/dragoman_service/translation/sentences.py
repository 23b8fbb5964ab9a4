"""From a sentence to what the model reads: its spans protected, its capitals lowered, short enough for the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from typing import TypeGuard

from dragoman_service.repository.models import Route
from dragoman_service.text.capitals import in_capitals, in_small_letters
from dragoman_service.text.segmenter import EncodedPiece, Piece, encode_to_fit, on_one_line
from dragoman_service.text.spans import Span
from dragoman_service.translation.continuation import continuation
from dragoman_service.translation.prefix import Prefix, PrefixText, completed
from dragoman_service.translation.protection import (
    Protected,
    Segment,
    outputs_of,
    parts_around,
    protected,
    segments_around,
    trimmed,
    without,
)
from dragoman_service.translation.quantities import with_quantities
from dragoman_service.translation.unspelled import is_foreign, unspelled_characters, with_unspelled
from dragoman_service.translation.warnings import TextWarning, WarningKind

_NOT_READABLE = "most of its letters are unknown to the model; it is returned as it is"
_IN_PARTS = "it has too many spans that are to be kept; it was translated in the parts around them"


@dataclass(frozen=True, slots=True)
class ProtectedPiece(EncodedPiece):
    """A sentence with spans that its translation must have. Its tokens are those of the text with stand-ins."""

    protected: Protected = field(kw_only=True)

    def restored(self, translation: str, prefix: Prefix | None = None) -> str | None:
        """A translation of the tokens, which begins with a prefix, with the spans in it; None if it cannot be used."""
        if prefix is not None and (rest := prefix.rest_of(translation)) is not None:
            return self.protected.restored(on_one_line(rest), given=prefix.beginning)
        return self.protected.restored(on_one_line(translation), str.upper if self.capitals else str)


@dataclass(frozen=True, slots=True)
class TermPiece(EncodedPiece):
    """A sentence with terms, and no other spans. Its tokens are those of its text.

    In its translation, the words to which the terms are aligned are replaced.
    """

    protected: ProtectedPiece = field(kw_only=True)
    """The same sentence with stand-ins, for a second attempt."""


@dataclass(frozen=True, slots=True)
class GivenPiece(EncodedPiece):
    """The beginning of a sentence that is translated in parts, in whose place its prefix stands. It has no tokens."""

    tail: str = ""
    """The end of the prefix, which is the prefix of the next part, and not written here."""


@dataclass(frozen=True, slots=True)
class PartPiece(EncodedPiece):
    """A part of a sentence, between spans that it keeps."""

    kept: tuple[str, ...] = ()
    """The spans, which must not stand in its translation too."""
    before: str = ""
    """What is kept directly before it."""
    after: str = ""
    """What is kept directly after it."""

    def written(self, translation: str) -> str:
        """See `EncodedPiece.written`. The translation must be whole.

        It is the part itself if the translation forms a span together with what stands beside it.
        """
        text = without(EncodedPiece.written(self, translation), [it for it in self.kept if it not in self.text])
        own, there = (self.before + it + self.after for it in (self.text, text))
        return self.text if any(it in there and there.count(it) > own.count(it) for it in self.kept) else text


def is_plain(piece: EncodedPiece) -> bool:
    """Whether a piece is a sentence, or a part of one, that keeps no spans. Only its translation may be streamed."""
    return type(piece) is EncodedPiece


def is_checked(piece: EncodedPiece) -> TypeGuard[ProtectedPiece | TermPiece]:
    """Whether the translation of a piece is checked, and may need another attempt."""
    return isinstance(piece, (ProtectedPiece, TermPiece))


def read_text(piece: EncodedPiece) -> str:
    """The text of a piece as the model reads it."""
    convert = in_small_letters if piece.capitals else str
    return piece.protected.shown(convert) if isinstance(piece, ProtectedPiece) else convert(piece.text)


def prefix_after(piece: EncodedPiece, prefix: PrefixText) -> PrefixText:
    """What remains of the prefix of a text after one of its pieces: the first sentence has all of it.

    The prefix may have what is copied before the sentence, or a part of this.
    """
    if isinstance(piece, GivenPiece):
        rest = piece.tail
    elif piece.tokens or piece.output.startswith(prefix.text):
        rest = ""
    else:
        rest = prefix.text.removeprefix(piece.output)
    return prefix._replace(text=rest)


def copied(text: str, spans: Sequence[Span]) -> EncodedPiece:
    """A piece that is not translated, but for what is written in place of its spans."""
    if all(span.written is None for span in spans):
        return EncodedPiece(text, ())
    segments = segments_around(text, spans)
    return EncodedPiece(text, (), replacement="".join(segment.written or segment.text for segment in segments))


Warn = Callable[[TextWarning], None]


def encoded(piece: Piece, route: Route, warn: Warn, prefix: PrefixText) -> Iterator[EncodedPiece]:
    """Cut a translatable piece into encoded pieces. The translation of the first sentence begins with the prefix.

    A sentence in capitals is translated in small letters, and its translation is changed to capitals, but for the spans
    that it keeps. This is not done if the translation has a prefix, which alignments must not change either.
    """
    capitals = not prefix.text and in_capitals(piece.text, route.source_language, route.target_language, piece.spans)
    for part in encoded_part(piece.text, route, capitals=capitals, spans=piece.spans):
        for found in _encoded(part, piece.start + part.start, route, warn, prefix):
            yield found if prefix.text else _aligned(found, route)
            prefix = prefix_after(found, prefix)


def _encoded(part: EncodedPiece, offset: int, route: Route, warn: Warn, prefix: PrefixText) -> Iterator[EncodedPiece]:
    if not part.tokens:
        yield copied(part.text, part.spans)
    elif not part.spans and route.model.tokenizer.fallback_ids.isdisjoint(part.tokens):
        yield part
    else:
        yield from _protected(part, offset, route, warn, prefix)


def encoded_part(text: str, route: Route, *, capitals: bool, spans: Sequence[Span] = ()) -> Iterator[EncodedPiece]:
    """Encode a part of a sentence, which is in capitals or not as the sentence is."""
    tokenizer = route.model.tokenizer
    limit = route.model.description.max_source_tokens - tokenizer.source_overhead
    if not capitals:
        yield from encode_to_fit(text, tokenizer.encode, limit, spans)
    else:
        for part in encode_to_fit(text, lambda part: tokenizer.encode(in_small_letters(part)), limit, spans):
            yield replace(part, capitals=bool(part.tokens))


def _protected(
    piece: EncodedPiece, offset: int, route: Route, warn: Warn, prefix: PrefixText
) -> Iterator[EncodedPiece]:
    """Encode a sentence that keeps spans; `offset` is its place in the text."""
    text = piece.text
    lost = unspelled_characters(text, route.model.tokenizer)
    if is_foreign(text, lost):
        warn(TextWarning(WarningKind.SOURCE_NOT_READABLE, offset, offset + len(text), _NOT_READABLE))
        yield copied(text, piece.spans)
        return
    spans = with_quantities(text, with_unspelled(text, piece.spans, lost))
    start, end = trimmed(text, spans)
    inner = [it.shifted(-start) for it in spans if start <= it.start and it.end <= end]
    if all(part.kept for part in parts_around(text[start:end], inner)):
        yield copied(text, spans)
        return
    if start:
        before = EncodedPiece(text[:start], ())
        yield before
        prefix = prefix_after(before, prefix)
    yield from _sentence(text[start:end], inner, offset + start, route, warn, prefix, capitals=piece.capitals)
    if end < len(text):
        yield EncodedPiece(text[end:], ())


def _aligned(piece: EncodedPiece, route: Route) -> EncodedPiece:
    """A sentence of which all spans are terms, for a model that returns alignments; else the piece as it is."""
    if not isinstance(piece, ProtectedPiece) or not route.model.description.alignments:
        return piece
    if piece.protected.invisible or not all(span.written for span in piece.spans):
        return piece
    tokenizer = route.model.tokenizer
    tokens = tokenizer.encode(in_small_letters(piece.text) if piece.capitals else piece.text)
    fits = len(tokens) <= route.model.description.max_source_tokens - tokenizer.source_overhead
    if not fits or not tokenizer.fallback_ids.isdisjoint(tokens):
        return piece
    return TermPiece(piece.text, tokens, piece.capitals, spans=piece.spans, protected=piece)


def with_other_stand_ins(piece: ProtectedPiece, route: Route) -> ProtectedPiece | None:
    """A sentence with other stand-ins for the same spans; None if there are no others."""
    words = route.model.description.stand_ins
    others = (*words[len(words) // 2 :], *words[: len(words) // 2])
    found = _with_stand_ins(piece.text, piece.spans, others, route, capitals=piece.capitals)
    return None if found is None or found.protected == piece.protected else found


def _with_stand_ins(
    sentence: str, spans: Sequence[Span], stand_ins: Sequence[str], route: Route, *, capitals: bool
) -> ProtectedPiece | None:
    """A sentence with stand-ins for its spans; None if these are too few, or the model cannot read so many tokens."""
    tokenizer = route.model.tokenizer
    guarded = protected(sentence, spans, stand_ins)
    tokens = tokenizer.encode(guarded.shown(in_small_letters if capitals else str)) if guarded else []
    if guarded is None or not 0 < len(tokens) <= route.model.description.max_source_tokens - tokenizer.source_overhead:
        return None
    return ProtectedPiece(sentence, tokens, capitals, spans=tuple(spans), protected=guarded)


def _sentence(
    sentence: str, spans: Sequence[Span], offset: int, route: Route, warn: Warn, prefix: PrefixText, *, capitals: bool
) -> Iterator[EncodedPiece]:
    guarded = _with_stand_ins(sentence, spans, route.model.description.stand_ins, route, capitals=capitals)
    if guarded is not None:
        yield guarded
        return
    warn(TextWarning(WarningKind.SPANS_IN_PARTS, offset, offset + len(sentence), _IN_PARTS))
    parts: Sequence[Segment] = parts_around(sentence, spans)
    if prefix.text and prefix.required:
        beginning = completed(prefix.text, outputs_of(sentence, spans))
        rest = continuation(beginning, sentence, spans)
        written = beginning.removesuffix(rest.tail) + rest.between
        yield GivenPiece(sentence[: rest.done], (), replacement=written, tail=rest.tail)
        parts = rest.parts
    kept = tuple({sentence[span.start : span.end] for span in spans if span.written is None})
    for number, part in enumerate(parts):
        if part.kept:
            yield EncodedPiece(part.text, (), replacement=part.written)
            continue
        before = "".join(reversed([it.output for it in takewhile(_is_kept, reversed(parts[:number]))]))
        after = "".join(it.output for it in takewhile(_is_kept, parts[number + 1 :]))
        for it in encoded_part(part.text, route, capitals=capitals):
            yield PartPiece(it.text, it.tokens, it.capitals, kept=kept, before=before, after=after) if it.tokens else it


def _is_kept(part: Segment) -> bool:
    return part.kept
