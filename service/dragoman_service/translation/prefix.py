"""Target prefixes: the translation of a text begins with exactly these characters.

The tokens of a prefix are not always the beginning of the tokens of a translation: "Die Kat" may be the beginning of
"Die Katze", which has other tokens. So the last word of a prefix is not given to the model. Instead, the first token
that it chooses must begin with that word, and may go on.

Tokenizers normalise text, so the characters of a translation may differ from those of its prefix. They are replaced.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

from dragoman_service.engine.restrictions import Restriction, TokensAt
from dragoman_service.repository.models import TextTokenizer
from dragoman_service.translation.protection import Protected

_SPACE = "▁"
"""How SentencePiece writes a space in a piece."""
_LAST = "\U0010ffff"


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

    @property
    def restrictions(self) -> tuple[Restriction, ...]:
        """See `Request.restrictions`."""
        return (TokensAt(len(self.tokens), self.allowed),) if self.allowed else ()

    def exact(self, translation: str) -> str:
        """A translation, or the beginning of one, with the characters of the prefix."""
        if not translation.startswith(self.decoded):
            return translation
        rest = translation[len(self.decoded) :]
        return self.text + (rest.removeprefix(" ") if self.text[-1:].isspace() else rest)

    def with_spans(self, protected: Protected) -> Prefix:
        """The prefix of a sentence with kept spans, whose translation has these spans already."""
        decoded = self.decoded
        for unit in protected.units:
            decoded = decoded.replace(unit.shown, unit.text)
        return replace(self, decoded=decoded)


class ExactStream:
    """The translation of a sentence in pieces, which begins with the characters of a prefix."""

    def __init__(self, prefix: Prefix | None) -> None:
        self._prefix = prefix
        self._held = ""

    def push(self, text: str, *, end: bool) -> str:
        """Add a piece, at the `end` the last one. Returns what is certain now."""
        prefix = self._prefix
        if prefix is None:
            return text
        self._held += text
        if not end and len(self._held) < len(prefix.decoded) + prefix.text[-1:].isspace():
            return ""
        self._prefix = None
        return prefix.exact(self._held)


def make_prefix(text: str, tokenizer: TextTokenizer, protected: Protected | None = None) -> Prefix:
    """A prefix of the translation of a sentence, whose kept spans are written as the model reads them."""
    shown = text
    for unit in protected.units if protected else ():
        before, after = (r"(?<!\w)" if unit.text[0].isalnum() else ""), (r"(?!\w)" if unit.text[-1].isalnum() else "")
        shown = re.sub(before + re.escape(unit.text) + after, unit.shown, shown)
    tokens = tokenizer.encode_target(shown)
    decoded = tokenizer.decode(tokens)
    index = _index(tokenizer)
    if text[-1:].isspace():
        return Prefix(text, tuple(tokens), index.beginning_with(_SPACE), decoded, len(tokens))
    pieces = tokenizer.pieces(tokens)
    for given in range(_last_word(pieces), len(pieces)):
        # A word with characters that the vocabulary lacks is given, as its bytes are no piece of text.
        allowed = index.beginning_with("".join(pieces[given:])) if "<" not in "".join(pieces[given:]) else ()
        if allowed and allowed != (tokens[-1],):
            return Prefix(text, tuple(tokens[:given]), allowed, decoded, len(tokens))
    return Prefix(text, tuple(tokens), (), decoded, len(tokens))


def _last_word(pieces: Sequence[str]) -> int:
    """The number of the piece with which the last word begins."""
    return next((number for number in reversed(range(len(pieces))) if pieces[number].startswith(_SPACE)), 0)


class _Index:
    """The pieces of a vocabulary, in alphabetical order."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        pieces = tokenizer.pieces(range(tokenizer.vocab_size))
        self._entries = sorted((piece, i) for i, piece in enumerate(pieces))

    def beginning_with(self, text: str) -> tuple[int, ...]:
        """The ids of the pieces that begin with a text."""
        entries = self._entries
        start, end = (bisect_left(entries, (it, -1)) for it in (text, text + _LAST))
        return tuple(i for _, i in entries[start:end])


_indexes: WeakKeyDictionary[TextTokenizer, _Index] = WeakKeyDictionary()


def _index(tokenizer: TextTokenizer) -> _Index:
    if tokenizer not in _indexes:
        _indexes[tokenizer] = _Index(tokenizer)
    return _indexes[tokenizer]
