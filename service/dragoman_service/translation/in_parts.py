"""A sentence that is translated in the parts around its kept spans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dragoman_service.engine.request import DecodingOptions
from dragoman_service.repository.models import Route
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.continuation import Continuation, continuation
from dragoman_service.translation.prefix import Prefix, make_prefix, with_prefix
from dragoman_service.translation.prepare import leaves_room
from dragoman_service.translation.protection import Beginning
from dragoman_service.translation.sentences import ProtectedPiece, encoded_part


@dataclass(frozen=True, slots=True)
class InParts:
    """A sentence and its parts."""

    piece: ProtectedPiece
    parts: tuple[EncodedPiece, ...]
    """In order, with what is kept between them. They follow what is `given`."""
    given: Beginning
    """The prefix of the sentence."""
    tail: Prefix | None
    """The prefix of the first part that is translated: the end of what is given, or what is preferred."""

    @property
    def wanted(self) -> list[tuple[EncodedPiece, Prefix | None]]:
        """The parts that are translated, with their prefixes."""
        parts = [part for part in self.parts if part.tokens]
        return [(part, self.tail if number == 0 else None) for number, part in enumerate(parts)]

    def text(self, translations: Sequence[str]) -> str:
        """The translation of the sentence from those of `wanted`."""
        remaining = iter(translations)
        outputs: list[str] = []
        written: list[str | None] = []
        tail = self.tail
        for part in self.parts:
            outputs.append(part.output)
            written.append(None)
            if not part.tokens:
                continue
            translation = next(remaining)
            if tail and tail.required:
                # Nothing stands in the place of a part whose translation is given as a whole.
                outputs[-1], written[-1] = "", part.written(tail.rest_of(translation) or "")
            else:
                written[-1] = with_prefix(tail, translation, part.written)
            tail = None
        return self.piece.protected.from_parts(outputs, written, self.given)


def in_parts(piece: ProtectedPiece, prefix: Prefix | None, route: Route, options: DecodingOptions) -> InParts:
    """Cut a sentence whose translation may have a prefix into the parts around its spans."""
    given = prefix.beginning if prefix and prefix.required else Beginning()
    following = continuation(given.text, piece.protected.text, piece.protected.units)
    parts = [EncodedPiece("", (), replacement=following.between)]
    for part in following.parts:
        if part.kept:
            parts.append(EncodedPiece(part.text, (), replacement=part.written))
        else:
            parts += encoded_part(part.text, route, capitals=piece.capitals)
    tail = prefix and _tail(prefix, following, route)
    first = next((number for number, part in enumerate(parts) if part.tokens), None)
    if tail and first is not None and not leaves_room(tail, parts[first], route, options):
        # The translation is cut at its largest length.
        parts[first], tail = EncodedPiece("", ()), None
    return InParts(piece, tuple(parts), given, tail)


def _tail(prefix: Prefix, following: Continuation, route: Route) -> Prefix | None:
    """The prefix of the first part. Like the parts, it has no spans."""
    text = following.tail
    if not prefix.required and not prefix.units:
        text = prefix.text
    return make_prefix(text, route.model.tokenizer, required=prefix.required) if text else None
