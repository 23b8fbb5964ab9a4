"""Target prefixes: the translation of a text begins with exactly these characters.

The tokens of a prefix are not always the beginning of the tokens of a translation: "Die Kat" may be the beginning of
"Die Katze", which has other tokens. So the last word of a prefix is not given to the model. Instead, the first token
that it chooses must begin with that word, and may go on.

Tokenizers normalise text, so the characters of a translation may differ from those of its prefix. They are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dragoman_service.engine.biases import Preferred
from dragoman_service.engine.restrictions import Restriction, TokensAt
from dragoman_service.errors import InvalidInput
from dragoman_service.repository.models import TextTokenizer
from dragoman_service.translation.protection import Protected
from dragoman_service.translation.vocabulary import vocabulary_of

MAX_BIAS = 100
"""Largest bias of a prefix that is preferred: hardly any token is `exp(-100)` times as likely as another one."""


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

    def preferred(self, bias: float) -> Preferred:
        """The prefix as one that is preferred and not given. See `Request.biases`."""
        places = ((token,) for token in self.tokens)
        return Preferred((*places, self.allowed) if self.allowed else tuple(places), bias)

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


def check_prefix_bias(bias: float | None) -> None:
    """Raise InvalidInput for a bias that is not allowed; None is."""
    if bias is not None and not 0 <= bias <= MAX_BIAS:
        raise InvalidInput("target_prefix_bias", bias, f"0 to {MAX_BIAS}")


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
    vocabulary = vocabulary_of(tokenizer)
    if text[-1:].isspace() and not decoded[-1:].isspace():
        return Prefix(text, tuple(tokens), vocabulary.beginning_with(b" "), decoded, len(tokens))
    texts = [vocabulary.texts[token] for token in tokens]
    pieces = tokenizer.pieces(tokens)
    for given in range(_last_word(texts), len(tokens)):
        # A word with characters that the vocabulary lacks is given, as its bytes are no piece of text.
        is_text = "<" not in "".join(pieces[given:])
        allowed = vocabulary.beginning_with(b"".join(texts[given:])) if is_text else ()
        if any(vocabulary.texts[token] != texts[-1] for token in allowed):
            return Prefix(text, tuple(tokens[:given]), allowed, decoded, len(tokens))
    return Prefix(text, tuple(tokens), (), decoded, len(tokens))


def _last_word(texts: Sequence[bytes]) -> int:
    """The number of the token with which the last word begins."""
    return next((number for number in reversed(range(len(texts))) if texts[number].startswith(b" ")), 0)
