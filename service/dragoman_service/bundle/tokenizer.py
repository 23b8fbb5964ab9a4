"""Tokenization of text into subword ids, and back, with SentencePiece (Kudo and Richardson 2018).

Training and service use the same code.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

import sentencepiece

from dragoman_service.errors import InvalidInput

SPECIAL_IDS = {"pad_id": 0, "begin_id": 1, "end_id": 2, "unknown_id": 3}
"""Ids of padding, begin of sentence, end of sentence and the unknown token in every tokenizer of Dragoman."""

_TARGET_TAG = re.compile(r"<2([a-z]{2,3}(?:-[A-Za-z0-9]+)*)>")

_UTF8_LENGTHS = ((0xC2, 0xDF, 2), (0xE0, 0xEF, 3), (0xF0, 0xF4, 4))
"""First and last lead byte, and the length in bytes of the characters that they begin (RFC 3629, section 4)."""


def target_tag(language: str) -> str:
    """The special piece that selects the target language of a multilingual model (Johnson et al. 2017)."""
    return f"<2{language}>"


class Tokenizer:
    """A SentencePiece model with byte fallback: every character has ids, so nothing is out of vocabulary.

    Encoding first normalises the text (SentencePiece's `nmt_nfkc`, which the model file contains), which is lossy:
    - NFKC folds compatibility characters: a ligature becomes its letters.
    - Any whitespace becomes a space, as do the zero-width space and non-joiner, the marks of writing direction, the
      byte order mark, U+FFFD and U+2581.
    - Several spaces become one, and those at either end are removed.
    - The control characters U+0001 to U+001F that are not whitespace, U+007F, U+008F and U+009F are removed.
    A text of removed characters alone has no ids. `decode(encode(text))` returns the normalised text.

    A tokenizer is immutable, so threads may share it. A `StreamDecoder` belongs to one thread at a time.
    """

    def __init__(self, model: Path | bytes) -> None:
        """Read a SentencePiece model from a file or from its bytes.

        Raises:
            InvalidInput: not a SentencePiece model, or one without byte fallback or without the ids of `SPECIAL_IDS`.
            OSError: the file cannot be read.
        """
        self._model = model if isinstance(model, bytes) else model.read_bytes()
        try:
            # Empty bytes would load without an error and fail at the first use.
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=self._model or b"\0")
        except RuntimeError as error:
            raise InvalidInput("tokenizer", f"{len(self._model)} bytes", "a SentencePiece model") from error
        self._check_special_ids()
        size = self._processor.get_piece_size()
        self._bytes = {i: int(self._processor.id_to_piece(i)[3:-1], 16) for i in range(size) if self._is_byte(i)}
        if len(self._bytes) != 256:
            raise InvalidInput("tokenizer", f"{len(self._bytes)} byte pieces", "256: train it with byte_fallback")
        self.pad_id, self.begin_id, self.end_id, self.unknown_id = SPECIAL_IDS.values()
        self.target_tags = self._find_target_tags()
        """Target language -> the id of its tag; empty for a model of one target language."""
        self.vocab_size: int = size
        """Number of ids."""
        self.fingerprint = hashlib.sha256(self._model).hexdigest()
        """SHA-256 of the model file, in hexadecimal."""

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        """A tokenizer is pickled as its file."""
        return Tokenizer, (self._model,)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, never special ones: `</s>` in the text is four characters, not the end of the sentence.

        Raises:
            InvalidInput: the text has a lone surrogate, which is not a character.
        """
        _check_text(text)
        ids: list[int] = self._processor.encode(text)
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores.

        Raises:
            InvalidInput: a text has a lone surrogate, which is not a character.
        """
        for text in texts:
            _check_text(text)
        ids: list[list[int]] = self._processor.encode(list(texts))
        return ids

    def encode_target(self, text: str) -> list[int]:
        """The ids of a text of the target side; see `encode`."""
        return self.encode(text)

    def source(self, ids: Sequence[int], source_language: str, target_language: str) -> tuple[int, ...]:
        """The input of the encoder: the tag of the target language if there are tags, the ids of a text, the end id.

        Raises:
            InvalidInput: the tokenizer has tags, but none of this language.
        """
        if not self.target_tags:
            return (*ids, self.end_id)
        tag = self.target_tags.get(target_language)
        if tag is None:
            raise InvalidInput("target_language", target_language, ", ".join(self.target_tags))
        return (tag, *ids, self.end_id)

    @property
    def source_overhead(self) -> int:
        """Number of ids that `source` adds to those of a text."""
        return 2 if self.target_tags else 1

    def forced(self, target_language: str) -> tuple[int, ...]:
        """Ids that the decoder is fed after the first one, before any is chosen; see `engine.request.Request`."""
        return ()

    @property
    def target_overhead(self) -> int:
        """Largest number of ids that `forced` gives."""
        return 0

    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Each byte that is not valid UTF-8 becomes U+FFFD; special ids but the unknown are left out.

        Raises:
            InvalidInput: an id outside the vocabulary.
        """
        self._check_range(ids)
        text: str = self._processor.decode(list(ids))
        return text

    def pieces(self, ids: Sequence[int]) -> list[str]:
        """The subword of each id as the model file writes it: a leading U+2581 is a space, `<0xE2>` a byte.

        Raises:
            InvalidInput: an id outside the vocabulary.
        """
        self._check_range(ids)
        return [self._processor.id_to_piece(i) for i in ids]

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for the ids of one text that arrive in pieces."""
        return StreamDecoder(self)

    def incomplete_tail(self, ids: Sequence[int]) -> int:
        """Number of ids at the end, 0 to 3, that are the first bytes of an incomplete UTF-8 character."""
        for count in range(1, min(3, len(ids)) + 1):
            byte = self._bytes.get(ids[-count])
            if byte is None:
                return 0
            for first, last, length in _UTF8_LENGTHS:
                if first <= byte <= last:
                    return count if count < length else 0
        return 0

    @property
    def anchor_id(self) -> int:
        """The id of the byte piece of a full stop, a single character that ends an incomplete one before it."""
        return next(i for i, byte in self._bytes.items() if byte == ord("."))

    def _is_byte(self, i: int) -> bool:
        return bool(self._processor.is_byte(i))

    def _find_target_tags(self) -> dict[str, int]:
        processor = self._processor
        tags = {}
        for i in range(processor.get_piece_size()):
            if processor.is_control(i) and (match := _TARGET_TAG.fullmatch(processor.id_to_piece(i))):
                tags[match[1]] = i
        return tags

    def _check_special_ids(self) -> None:
        processor = self._processor
        ids = (processor.pad_id(), processor.bos_id(), processor.eos_id(), processor.unk_id())
        if ids != tuple(SPECIAL_IDS.values()):
            raise InvalidInput("tokenizer", f"padding, begin, end, unknown = {ids}", str(tuple(SPECIAL_IDS.values())))

    def _check_range(self, ids: Sequence[int]) -> None:
        for i in ids:
            if not 0 <= i < self.vocab_size:
                raise InvalidInput("token id", i, f"0 to {self.vocab_size - 1}")


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("text", text, "Unicode text without lone surrogates") from error


class StreamDecoder:
    """Incremental decoder: the results of `push` and `flush`, concatenated, are `decode` of all the ids.

    Ids cannot be decoded one by one, for two reasons. A character outside the vocabulary consists of several byte
    pieces. The space before the first word is not part of the text, but the space before a later word is.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._anchor = tokenizer.anchor_id
        self._pending: list[int] = []
        self._started = False

    def push(self, ids: Sequence[int]) -> str:
        """Add ids. Returns the text that they complete.

        Raises:
            InvalidInput: an id outside the vocabulary.
        """
        self._pending.extend(ids)
        return self._take(len(self._pending) - self._tokenizer.incomplete_tail(self._pending))

    def flush(self) -> str:
        """End the text. Returns what is left of it."""
        return self._take(len(self._pending))

    def _take(self, count: int) -> str:
        ids = self._pending[:count]
        if self._started:  # decode after another character, which is cut off again, so that a leading space is kept
            text = self._tokenizer.decode([self._anchor, *ids])[1:]
        else:
            text = self._tokenizer.decode(ids)
            if not text:  # only spaces so far, which are dropped at the beginning of a text
                return ""
            self._started = True
        del self._pending[:count]
        return text
