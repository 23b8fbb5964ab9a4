"""Target prefixes: the translation of a text begins with exactly these characters.

The tokens of a prefix are not always the beginning of the tokens of a translation: "Die Kat" may be the beginning of
"Die Katze", which has other tokens. So the last word of a prefix is not given to the model. Instead, the first token
that it chooses must begin with that word, and may go on.

Tokenizers normalise text, so the characters of a translation may differ from those of its prefix. They are replaced.

A prefix may have kept spans of its sentence. The model reads their stand-ins there too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from dragoman_service.engine.biases import Preferred
from dragoman_service.engine.restrictions import Restriction, TokensAt
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import TextTokenizer
from dragoman_service.text.segmenter import EncodedPiece
from dragoman_service.translation.protection import Beginning, Protected, Unit
from dragoman_service.translation.vocabulary import vocabulary_of

MAX_BIAS = 100
"""Largest bias of a prefix that is preferred: hardly any token is `exp(-100)` times as likely as another one."""


class PrefixText(NamedTuple):
    """A prefix as the caller gives it."""

    text: str = ""
    """Empty for none."""
    required: bool = True
    """Whether the translation must begin with it; else it is preferred."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of the translation of a text."""

    text: str
    tokens: tuple[int, ...]
    """Target tokens that are given."""
    allowed: tuple[int, ...]
    """The tokens of which the next one must be chosen; empty for all."""
    decoded: str
    """How the translation begins when it is decoded."""
    length: int
    """Number of tokens of all of the prefix."""
    units: tuple[Unit, ...] = ()
    """The units of the sentence that it has, in its own order."""
    required: bool = True
    """See `PrefixText.required`."""

    @property
    def beginning(self) -> Beginning:
        """The prefix as the beginning of a translation in which the units stand."""
        return Beginning(self.text, self.units)

    @property
    def restrictions(self) -> tuple[Restriction, ...]:
        """See `Request.restrictions`."""
        return (TokensAt(len(self.tokens), self.allowed),) if self.allowed else ()

    def preferred(self, bias: float) -> Preferred:
        """The prefix as one that is preferred and not given. See `Request.biases`."""
        places = ((token,) for token in self.tokens)
        return Preferred((*places, self.allowed) if self.allowed else tuple(places), bias)

    def rest_of(self, translation: str) -> str | None:
        """What a translation, or the beginning of one, has after the prefix. None if it has not followed the prefix.

        Of a translation that must begin with the prefix, the rest begins with the first character that differs: it was
        cut there, or the tokenizer spells one piece in two ways.
        """
        if not translation.startswith(self.decoded) and not self.required:
            return None
        pairs = zip(self.decoded, translation, strict=False)
        same = next((number for number, (own, its) in enumerate(pairs) if own != its), None)
        rest = translation[len(self.decoded) if same is None else same :]
        return rest.removeprefix(" ") if self.text[-1:].isspace() else rest


def with_prefix(prefix: Prefix | None, translation: str, written: Callable[[str], str]) -> str:
    """A translation that begins with the characters of its prefix, if it has one. `written` converts all others."""
    if prefix is None or (rest := prefix.rest_of(translation)) is None:
        return written(translation)
    return prefix.text + written(rest)


def check_prefix_bias(bias: float | None) -> None:
    """Raise InvalidInput for a bias that is not allowed; None is."""
    if bias is not None and not 0 <= bias <= MAX_BIAS:
        raise InvalidInput("target_prefix_bias", bias, f"0 to {MAX_BIAS}")


class ExactStream:
    """The translation of a sentence in pieces, which begins with the characters of a prefix."""

    def __init__(self, prefix: Prefix | None, piece: EncodedPiece) -> None:
        self._prefix = prefix
        self._piece = piece
        self._held = ""

    def push(self, text: str, *, end: bool) -> str:
        """Add a piece, at the `end` the last one. Returns what is certain now."""
        prefix = self._prefix
        if prefix is not None:
            self._held += text
            if not end and len(self._held) < len(prefix.decoded) + prefix.text[-1:].isspace():
                return ""
            text, self._prefix = self._held, None
        return with_prefix(prefix, text, self._piece.written)


def places_of(spans: Sequence[str], prefix: str) -> list[tuple[int, int] | None]:
    """Where each of some kept spans stands in a prefix: start and end, or None. The longest are looked for first.

    No two places overlap, and a span that begins or ends with a letter or digit has none beside it.
    """
    wanted: dict[str, list[int]] = {}
    for number, span in enumerate(spans):
        wanted.setdefault(span, []).append(number)
    places: list[tuple[int, int] | None] = [None] * len(spans)
    taken = bytearray(len(prefix))
    for span in sorted(wanted, key=lambda it: -len(it)):
        for number, (start, end) in zip(wanted[span], _free_places(span, prefix, taken), strict=False):
            places[number] = start, end
            taken[start:end] = b"\1" * len(span)
    return places


def _free_places(span: str, prefix: str, taken: bytearray) -> Iterator[tuple[int, int]]:
    start = prefix.find(span)
    while start >= 0:
        end = start + len(span)
        before, after = prefix[start - 1 : start], prefix[end : end + 1]
        touched = (span[0].isalnum() and before.isalnum()) or (span[-1].isalnum() and after.isalnum())
        is_free = not touched and taken.find(1, start, end) < 0
        if is_free:
            yield start, end
        start = prefix.find(span, end if is_free else start + 1)


def completed(prefix: str, spans: Sequence[str]) -> str:
    """A prefix that ends inside a kept span, with the rest of the span, which the model could not know.

    What may as well be the beginning of another word or number is not completed.
    """
    for span, place in zip(spans, places_of(spans, prefix), strict=True):
        for size in range(min(len(span) - 1, len(prefix)), 1, -1) if place is None else ():
            begun, before = span[:size], prefix[-size - 1 : -size]
            if prefix.endswith(begun) and not begun.isalnum() and not (begun[0].isalnum() and before.isalnum()):
                return prefix + span[size:]
    return prefix


def make_prefix(
    text: str, tokenizer: TextTokenizer, protected: Protected | None = None, *, required: bool = True
) -> Prefix:
    """A prefix of the translation of a sentence, whose kept spans are written as the model reads them."""
    units = protected.units if protected else ()
    text = completed(text, [unit.text for unit in units])
    found = _units_in(text, units)
    tokens = tokenizer.encode_target(_shown(text, found))
    decoded = tokenizer.decode(tokens)
    make = partial(
        Prefix,
        text,
        decoded=decoded,
        length=len(tokens),
        units=tuple(unit for _, unit in found),
        required=required,
    )
    vocabulary = vocabulary_of(tokenizer)
    if text[-1:].isspace() and not decoded[-1:].isspace():
        return make(tokens=tuple(tokens), allowed=vocabulary.beginning_with(b" "))
    texts = [vocabulary.texts[token] for token in tokens]
    pieces = tokenizer.pieces(tokens)
    for given in range(_last_word(texts), len(tokens)):
        # A word with characters that the vocabulary lacks is given, as its bytes are no piece of text.
        is_text = "<" not in "".join(pieces[given:])
        allowed = vocabulary.beginning_with(b"".join(texts[given:])) if is_text else ()
        if any(vocabulary.texts[token] != texts[-1] for token in allowed):
            return make(tokens=tuple(tokens[:given]), allowed=allowed)
    return make(tokens=tuple(tokens), allowed=())


def _units_in(prefix: str, units: Sequence[Unit]) -> list[tuple[tuple[int, int], Unit]]:
    """The units that a prefix has, and where."""
    places = places_of([unit.text for unit in units], prefix)
    return sorted((place, unit) for place, unit in zip(places, units, strict=True) if place is not None)


def _shown(prefix: str, units: Sequence[tuple[tuple[int, int], Unit]]) -> str:
    """A prefix as the model reads it: with stand-ins, which no letter or digit touches."""
    shown, done = "", 0
    for (start, end), unit in units:
        shown += prefix[done:start]
        apart = unit.shown != unit.text
        shown += " " * (apart and shown[-1:].isalnum()) + unit.shown + " " * (apart and prefix[end : end + 1].isalnum())
        done = end
    return shown + prefix[done:]


def _last_word(texts: Sequence[bytes]) -> int:
    """The number of the token with which the last word begins."""
    return next((number for number in reversed(range(len(texts))) if texts[number].startswith(b" ")), 0)
