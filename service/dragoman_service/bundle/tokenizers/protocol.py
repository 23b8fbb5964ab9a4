"""The protocol of a tokenizer, and its description in a manifest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class SpecialIds:
    """Ids of the special tokens, in the vocabulary of the target. Two of them may be the same."""

    pad: int
    begin: int
    """The id that the decoder is fed first."""
    end: int
    unknown: int


@dataclass(frozen=True, slots=True)
class TokenizerSpec:
    """The description of a tokenizer in a manifest."""

    kind: str
    """One of `loading.KINDS`."""
    files: dict[str, str]
    """Role -> name of the file in the bundle. The table in the docstring of this package has the roles of each kind."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Values of JSON. The table in the docstring of this package has the settings of each kind."""


class StreamDecoder(Protocol):
    """A decoder for the ids of one text that arrive in pieces. It belongs to one thread at a time.

    The results of `push` and `flush`, concatenated, are `Tokenizer.decode` of all the ids.
    """

    def push(self, ids: Sequence[int]) -> str:
        """Add ids. Returns the text that they complete.

        Raises:
            InvalidInput: an id outside the vocabulary.
        """
        ...

    def flush(self) -> str:
        """End the text. Returns what is left of it."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back. A tokenizer is immutable, so threads may share it; it is pickled as its files.

    Languages are BCP 47 tags; upper and lower case are the same. Texts with lone surrogates are refused.
    """

    kind: str
    vocab_size: int
    """Number of target ids."""
    source_vocab_size: int
    """Number of source ids."""
    pad_id: int
    """A target id, like the following three."""
    begin_id: int
    """The id that the decoder is fed first."""
    end_id: int
    unknown_id: int
    fallback_ids: frozenset[int]
    """Source ids of what the vocabulary lacks: the unknown id, and byte pieces of characters beyond ASCII."""
    byte_ids: Mapping[int, int]
    """Target id of a byte piece -> the byte."""
    fingerprint: str
    """SHA-256 of the files, in hexadecimal. Of a kind with settings, of these too."""

    def encode(self, text: str) -> list[int]:
        """The source ids of a text. No text gives a special id, but what the vocabulary lacks is the unknown id.

        Raises:
            InvalidInput: the text has a lone surrogate, which is not a character.
        """
        ...

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores.

        Raises:
            InvalidInput: a text has a lone surrogate, which is not a character.
        """
        ...

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """`encode`, and for each id the half-open span of the characters of `text` from which it comes.

        Starts and ends never descend. Ids that share a character, such as the bytes of an emoji, each have all of it,
        so their spans overlap. The space that SentencePiece adds in front of a text has an empty span.

        Raises:
            InvalidInput: the text has a lone surrogate, which is not a character.
        """
        ...

    def encode_target(self, text: str) -> list[int]:
        """The target ids of a text, otherwise as `encode`.

        Raises:
            InvalidInput: the text has a lone surrogate, which is not a character.
        """
        ...

    def source(self, ids: Sequence[int], source_language: str, target_language: str) -> tuple[int, ...]:
        """The input of the encoder: the ids of a text with the language ids and special ids that the model reads.

        Raises:
            InvalidInput: the model reads a language, but does not know this one.
        """
        ...

    @property
    def source_overhead(self) -> int:
        """Largest number of ids that `source` adds to those of a text."""
        ...

    def forced(self, target_language: str) -> tuple[int, ...]:
        """Ids that the decoder is fed after `begin_id`. They are neither scored nor shown.

        Raises:
            InvalidInput: the decoder reads a language, but does not know this one.
        """
        ...

    @property
    def target_overhead(self) -> int:
        """Number of ids that `forced` gives."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """The text of target ids. Special ids are left out; each byte that is not valid UTF-8 becomes U+FFFD.

        Raises:
            InvalidInput: an id outside the vocabulary.
        """
        ...

    def decode_with_offsets(self, ids: Sequence[int]) -> tuple[str, list[tuple[int, int]]]:
        """`decode`, and for each id the half-open span of its characters in the text.

        Starts and ends never descend. The bytes of a character each have all of it; an id without text has an empty
        span.

        Raises:
            InvalidInput: an id outside the vocabulary.
        """
        ...

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The subword of each target id as the vocabulary writes it. SentencePiece writes a space as U+2581.

        Raises:
            InvalidInput: an id outside the vocabulary.
        """
        ...

    def texts(self) -> list[bytes]:
        """What each target id adds to a text, in bytes of UTF-8: empty for most special ids, one byte for a byte piece.

        `decode` of some ids is the text that these bytes are, but for spaces at its beginning.
        """
        ...

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for the ids of one text that arrive in pieces."""
        ...
