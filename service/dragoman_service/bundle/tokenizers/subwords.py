"""The one tokenizer class of all kinds: its parts differ, what it does with them does not."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dragoman_service.bundle.tokenizers.decoding import Detokenizer, PieceStream
from dragoman_service.bundle.tokenizers.encoding import Spans, TextEncoder
from dragoman_service.bundle.tokenizers.protocol import SpecialIds
from dragoman_service.errors import InvalidInput


class Language(enum.Enum):
    """A place in a sequence of ids for the id of a language."""

    SOURCE = "source_language"
    TARGET = "target_language"


@dataclass(frozen=True, slots=True)
class Template:
    """What a model reads around the ids of a text, in order."""

    before: tuple[int | Language, ...] = ()
    """Source ids in front of the text."""
    after: tuple[int | Language, ...] = ()
    """Source ids behind the text."""
    forced: tuple[int | Language, ...] = ()
    """Target ids that the decoder is fed after the begin id."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the files of a kind are read into."""

    source: TextEncoder
    target: TextEncoder
    detokenizer: Detokenizer
    special: SpecialIds
    template: Template
    source_vocab_size: int
    source_languages: Mapping[str, int] = field(default_factory=dict)
    """BCP 47 tag -> source id."""
    target_languages: Mapping[str, int] = field(default_factory=dict)
    """BCP 47 tag -> target id."""


class SubwordTokenizer:
    """A tokenizer made of `Parts`: see `protocol.Tokenizer`."""

    def __init__(self, kind: str, parts: Parts, fingerprint: str) -> None:
        self._source, self._target, self._detokenizer = parts.source, parts.target, parts.detokenizer
        self._template = parts.template
        self._source_languages = parts.source_languages
        self._target_languages = parts.target_languages
        self.kind = kind
        self.vocab_size = parts.detokenizer.size
        self.source_vocab_size = parts.source_vocab_size
        self.pad_id, self.begin_id = parts.special.pad, parts.special.begin
        self.end_id, self.unknown_id = parts.special.end, parts.special.unknown
        self.fallback_ids, self.byte_ids = parts.source.fallback_ids, parts.detokenizer.bytes
        self.fingerprint = fingerprint

    def encode(self, text: str) -> list[int]:
        """The source ids of a text: see `protocol.Tokenizer`."""
        return self._source.encode(text)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """The source ids of each text, on all cores."""
        return self._source.encode_batch(texts)

    def encode_with_offsets(self, text: str) -> tuple[list[int], Spans]:
        """The source ids of a text, and the span of each in it."""
        return self._source.encode_with_offsets(text)

    def encode_target(self, text: str) -> list[int]:
        """The target ids of a text."""
        return self._target.encode(text)

    def source(self, ids: Sequence[int], source_language: str, target_language: str) -> tuple[int, ...]:
        """The input of the encoder: see `protocol.Tokenizer`."""
        languages = {Language.SOURCE: source_language, Language.TARGET: target_language}
        before = self._filled(self._template.before, languages, self._source_languages)
        return (*before, *ids, *self._filled(self._template.after, languages, self._source_languages))

    @property
    def source_overhead(self) -> int:
        """Number of ids that `source` adds to those of a text."""
        return len(self._template.before) + len(self._template.after)

    def forced(self, target_language: str) -> tuple[int, ...]:
        """Ids that the decoder is fed after the begin id: see `protocol.Tokenizer`."""
        return self._filled(self._template.forced, {Language.TARGET: target_language}, self._target_languages)

    @property
    def target_overhead(self) -> int:
        """Number of ids that `forced` gives."""
        return len(self._template.forced)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target ids: see `protocol.Tokenizer`."""
        return self._detokenizer.decode(ids)

    def decode_with_offsets(self, ids: Sequence[int]) -> tuple[str, Spans]:
        """The text of target ids, and the span of each in it."""
        return self._detokenizer.decode_with_offsets(ids)

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The subword of each target id: see `protocol.Tokenizer`."""
        return self._detokenizer.shown(ids)

    def texts(self) -> list[bytes]:
        """What each target id adds to a text: see `protocol.Tokenizer`."""
        made = self._detokenizer
        return [
            bytes([self.byte_ids[i]]) if i in self.byte_ids else made.verbatim.get(i, made.surface(i)).encode()
            for i in range(self.vocab_size)
        ]

    def stream_decoder(self) -> PieceStream:
        """A decoder for the ids of one text that arrive in pieces."""
        return PieceStream(self._detokenizer)

    def _filled(
        self, items: Sequence[int | Language], languages: Mapping[Language, str], known: Mapping[str, int]
    ) -> tuple[int, ...]:
        return tuple(it if isinstance(it, int) else _language_id(it, languages[it], known) for it in items)


def _language_id(place: Language, language: str, known: Mapping[str, int]) -> int:
    found = known.get(language)
    if found is None:  # upper and lower case are the same, but callers mostly write what the manifest has
        found = next((i for tag, i in known.items() if tag.lower() == language.lower()), None)
    if found is None:
        raise InvalidInput(place.value, language, ", ".join(known))
    return found
