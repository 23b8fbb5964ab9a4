"""The texts of a tokenizer's target ids, and which of them have a given text.

Texts are bytes of UTF-8, because the text of a byte piece is a part of a character.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from dragoman_service.engine.biases import BORDER, INSIDE, NO_TEXT
from dragoman_service.repository.models import TextTokenizer
from dragoman_service.text.characters import MARK, UNSPACED

_IN_WORD = rf"(?![{UNSPACED}])\w|[{MARK}]"
_PART = re.compile(f"(?:{_IN_WORD})++|.", re.DOTALL)
_WORD = re.compile(_IN_WORD)


def parts_of(text: bytes) -> list[str]:
    """Cut a text into words, and the characters between them. Each of those without spaces between words is a part."""
    return _PART.findall(text.decode(errors="replace"))


def is_word(part: str) -> bool:
    """Whether a part is a word, or a part of one."""
    return _WORD.match(part) is not None


class Vocabulary:
    """The pieces and texts of ids. What a search needs is made when it is first used."""

    def __init__(self, pieces: Sequence[str], texts: Sequence[bytes]) -> None:
        """Both are those of the ids in their order; an id without text has an empty one."""
        self.texts = texts
        self._pieces = pieces

    def with_piece(self, piece: str) -> list[int]:
        """The ids that have a piece."""
        return [i for i in self._by_piece.of(piece) if self._pieces[i] == piece]

    def with_text(self, text: bytes) -> list[int]:
        """The ids that have a text."""
        return [i for i in self._by_text.of(text) if self.texts[i] == text]

    def beginning_with(self, text: bytes) -> tuple[int, ...]:
        """The ids whose texts begin with a text."""
        order, texts = self._alphabetical, self.texts
        start = bisect_left(order, text, key=texts.__getitem__)
        end = bisect_right(order, text, start, key=lambda i: texts[i][: len(text)])
        return tuple(order[start:end])

    def with_first_parts(self, text: bytes) -> list[int]:
        """The ids whose texts begin with the parts of a text."""
        parts = parts_of(text)
        ids = self._by_first.of(_head(parts))
        return [i for i in ids if self.texts[i].startswith(text) and parts_of(self.texts[i])[: len(parts)] == parts]

    def with_last_parts(self, text: bytes) -> list[int]:
        """The ids whose texts end with the parts of a text, and have others before them."""
        parts = parts_of(text)
        ids = self._by_later.of(parts[0])
        return [i for i in ids if self.texts[i].endswith(text) and parts_of(self.texts[i])[-len(parts) :] == parts]

    def with_later_parts(self, text: bytes) -> list[int]:
        """The ids whose texts have the parts of a text behind others."""
        parts = parts_of(text)
        found = []
        for i in self._by_later.of(parts[0]):
            own = parts_of(self.texts[i])
            if any(own[start : start + len(parts)] == parts for start in range(1, len(own))):
                found.append(i)
        return found

    @cached_property
    def ends(self) -> bytes:
        """What the text of each id ends with (`engine.biases`). A byte piece is taken for no letter."""
        last = [text.decode(errors="replace")[-1:] for text in self.texts]
        return bytes(NO_TEXT if not it else INSIDE if is_word(it) else BORDER for it in last)

    @cached_property
    def longest(self) -> int:
        """Bytes of the longest text."""
        return max(map(len, self.texts), default=0)

    @cached_property
    def _alphabetical(self) -> list[int]:
        return sorted(range(len(self.texts)), key=self.texts.__getitem__)

    @cached_property
    def _by_piece(self) -> _Index:
        return _Index((piece, i) for i, piece in enumerate(self._pieces))

    @cached_property
    def _by_text(self) -> _Index:
        return _Index((text, i) for i, text in enumerate(self.texts))

    @cached_property
    def _by_first(self) -> _Index:
        return _Index((_head(parts_of(text)), i) for i, text in enumerate(self.texts) if text)

    @cached_property
    def _by_later(self) -> _Index:
        return _Index((part, i) for i, text in enumerate(self.texts) for part in set(parts_of(text)[1:]))


def _head(parts: Sequence[str]) -> str:
    """The first part. As so many texts begin with a space, that and the part behind it."""
    return "".join(parts[:2]) if parts[0] == " " else parts[0]


class _Index:
    """Ids by keys, of which only hashes are kept: there may be hundreds of thousands."""

    def __init__(self, entries: Iterable[tuple[Hashable, int]]) -> None:
        pairs = np.fromiter(((hash(key), i) for key, i in entries), np.dtype((np.int64, 2)))
        self._hashes, self._ids = pairs[np.argsort(pairs[:, 0], kind="stable")].T

    def of(self, key: Hashable) -> list[int]:
        """The ids of a key, ascending, and now and then those of another one."""
        start, end = (self._hashes.searchsorted(hash(key), side) for side in ("left", "right"))
        ids: list[int] = self._ids[start:end].tolist()
        return ids


_vocabularies: WeakKeyDictionary[TextTokenizer, Vocabulary] = WeakKeyDictionary()


def vocabulary_of(tokenizer: TextTokenizer) -> Vocabulary:
    """The vocabulary of a tokenizer, which is kept as long as the tokenizer."""
    if tokenizer not in _vocabularies:
        _vocabularies[tokenizer] = Vocabulary(tokenizer.pieces(range(tokenizer.vocab_size)), tokenizer.texts())
    return _vocabularies[tokenizer]
