"""Pure functions on the calls of the Python clients: which texts go together, what is refused, what is tried again."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from dragoman_service.client.errors import (
    CallCancelled,
    InvalidRequest,
    ServerOverloaded,
    ServerUnavailable,
    TranslationError,
)
from dragoman_service.client.values import utf8

_BYTES_PER_CALL = 256 * 2**10
"""Most bytes of the texts and prefixes of a call of several texts: less than any server's limit, which is 1 MiB at the
least, and little enough for several calls at a time."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
"""Seconds before the second attempt, and most before later ones, where the server does not say how many."""
_ALL_TEXTS = ("texts", "request")
"""Fields that are named where the texts of a call are too many or too long together."""


@dataclass(frozen=True, slots=True)
class Part:
    """The texts of one call."""

    first: int
    """Index of the first one among all texts."""
    texts: tuple[str, ...]
    prefixes: tuple[str, ...]
    """One for each text."""
    refused: InvalidRequest | None = None
    """Why the text, which is a single one, is not sent (again)."""

    def slice(self, start: int, end: int) -> Part:
        """The texts from `start` to before `end`."""
        return Part(self.first + start, self.texts[start:end], self.prefixes[start:end])


def parts(texts: Iterable[str], prefixes: Sequence[str] | str, texts_per_call: int) -> Iterator[Part]:
    """Divide texts into calls: by their number, and by their bytes. Reads the texts lazily.

    One prefix for all texts is left out of blank texts, of which servers refuse it. Raises ValueError if the prefixes
    are not as many as the texts.
    """
    if isinstance(texts, str):
        raise TypeError("texts: got one string; allowed: a list of strings")
    held: list[tuple[str, str]] = []
    size = at = 0
    for index, (text, prefix) in enumerate(_pairs(texts, prefixes)):
        try:
            length = len(utf8(f"texts[{index}]", text)) + len(utf8(f"target_prefixes[{index}]", prefix))
        except InvalidRequest as error:
            if held:
                yield _part(at, held)
            yield Part(index, (text,), (prefix,), error)
            held, size, at = [], 0, index + 1
            continue
        if held and size + length > _BYTES_PER_CALL:
            yield _part(at, held)
            held, size, at = [], 0, index
        held.append((text, prefix))
        size += length
        if len(held) == texts_per_call:  # before the next text is read, which may be typed later
            yield _part(at, held)
            held, size, at = [], 0, index + 1
    if held:
        yield _part(at, held)


def divided(part: Part, error: TranslationError) -> list[Part]:
    """Parts of a refused call, from which its other texts get their translations.

    Raises `error` if the call was not refused for its texts.
    """
    if not isinstance(error, InvalidRequest):
        raise error
    index, count = error.index, len(part.texts)
    if error.field in _ALL_TEXTS:
        if count > 1:
            return [part.slice(0, count // 2), part.slice(count // 2, count)]
        index = 0
    if index is None or index >= count:
        raise error
    error.name_text(part.first + index)
    refused = Part(part.first + index, part.texts[index : index + 1], part.prefixes[index : index + 1], error)
    return [it for it in (part.slice(0, index), refused, part.slice(index + 1, count)) if it.texts]


def pause(error: TranslationError, attempt: int, attempts: int, seconds_left: float | None) -> float | None:
    """Seconds to wait after attempt number `attempt`, which is 1 or more; None: it was the last one.

    Tried again is what fails because a server is full, not there, or stops and cancels its calls, unless the deadline
    would pass before.
    """
    if attempt >= attempts or not isinstance(error, (ServerUnavailable, ServerOverloaded, CallCancelled)):
        return None
    seconds = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(attempt - 1, 16))
    if isinstance(error, ServerOverloaded):
        seconds = max(seconds, error.retry_after)
    seconds *= random.uniform(1, 1.2)  # so that many clients do not come again at once
    return seconds if seconds_left is None or seconds < seconds_left else None


def _part(first: int, pairs: Sequence[tuple[str, str]]) -> Part:
    texts, prefixes = zip(*pairs, strict=True)
    return Part(first, texts, prefixes)


def _pairs(texts: Iterable[str], prefixes: Sequence[str] | str) -> Iterator[tuple[str, str]]:
    if isinstance(prefixes, str):
        for text in texts:
            yield text, prefixes if text.strip() else ""
        return
    left = iter(prefixes)
    for text in texts:
        prefix = next(left, None) if prefixes else ""
        if prefix is None:
            raise ValueError("target_prefixes: fewer than texts; allowed: none, or one for each text")
        yield text, prefix
    if next(left, None) is not None:
        raise ValueError("target_prefixes: more than texts; allowed: none, or one for each text")
