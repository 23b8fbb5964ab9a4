"""Detects the language of a text, among given ones. The model, of py3langid, is loaded when it is first needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from dragoman_service.text.language_tags import LanguageTag, parse_tag
from dragoman_service.text.scripts import script_of

SAMPLE_CHARACTERS = 500
"""Characters of a text that are looked at. More do not make the answer better; each takes some microseconds."""
_READ_CHARACTERS = 2_000
"""Characters among which those are chosen: addresses tell nothing of the language."""
_NAMES = {
    "Arab": "ARABIC", "Cyrl": "CYRILLIC", "Deva": "DEVANAGARI", "Guru": "GURMUKHI", "Latn": "LATIN",
    "Mong": "MONGOLIAN", "Tfng": "TIFINAGH",
}  # fmt: skip
"""Script -> what `script_of` calls it, of the scripts of languages that are written in several."""
_HAN_CODECS = {"Hans": ("gb2312", "big5"), "Hant": ("big5", "gb2312")}
"""Script of Chinese -> the character set that has its characters, and that of the other one."""
_NO_LANGUAGE = "zxx"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A language that a text may be in."""

    language: str
    """As the caller of `detect` spells it."""
    confidence: float
    """0 to 1. All candidates together have 1."""


class _Identifier(Protocol):
    """What is used of `py3langid.langid.LanguageIdentifier`."""

    @property
    def labels(self) -> list[str]: ...

    def rank(self, text: str) -> list[tuple[str, float]]: ...


class Detector:
    """Detects languages. Threads may share it."""

    def __init__(self, identifier: _Identifier) -> None:
        self._identifier = identifier
        tags = ((label, parse_tag(label)) for label in identifier.labels if label != _NO_LANGUAGE)
        self._labels = {tag.written_language[0]: label for label, tag in tags if tag is not None}
        self._tags_by_label = lru_cache(maxsize=64)(self._tags_by_label_of)

    @property
    def languages(self) -> list[str]:
        """The languages that can be detected."""
        return list(self._labels)

    def knows(self, language: str) -> bool:
        """Whether texts in a language can be detected."""
        return self._label(parse_tag(language)) is not None

    def detect(self, text: str, languages: Sequence[str]) -> list[Candidate]:
        """The languages, of the given ones, that a text may be in: the likeliest first.

        Languages that `knows` does not are left out. Of tags that differ only in the script or the region, one is
        returned: that of the script of the text, else the first. Empty for a text without letters.
        """
        sample = _sample(text)
        tags = self._tags_by_label(tuple(languages))
        if not tags or not any(map(str.isalpha, sample)):
            return []
        scores = {label: score for label, score in self._identifier.rank(sample) if label in tags}
        # py3langid divides so for its probabilities. Those are of all its languages, and vanish for unlikely ones.
        scale = math.sqrt(len(sample.encode("utf-8", "surrogatepass")))
        best = max(scores.values())
        weights = {label: math.exp((score - best) / scale) for label, score in scores.items()}
        total = sum(weights.values())
        return [Candidate(_of_script(tags[label], sample), weight / total) for label, weight in weights.items()]

    def _tags_by_label_of(self, languages: tuple[str, ...]) -> dict[str, list[tuple[LanguageTag, str]]]:
        found: dict[str, list[tuple[LanguageTag, str]]] = {}
        for language in languages:
            tag = parse_tag(language)
            label = self._label(tag)
            if tag is not None and label is not None:
                found.setdefault(label, []).append((tag, language))
        return found

    def _label(self, tag: LanguageTag | None) -> str | None:
        return None if tag is None else self._labels.get(tag.written_language[0])


def load_detector() -> Detector:
    """Load the model: about a second of processor time, and 80 MB of memory."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # noqa: PLC0415 - few servers ever need it

    return Detector(LanguageIdentifier.from_model_file(MODEL_FILE))


def _sample(text: str) -> str:
    """The beginning of a text, without addresses."""
    words = text[:_READ_CHARACTERS].split()
    return " ".join(word for word in words if "//" not in word and "@" not in word)[:SAMPLE_CHARACTERS]


def _of_script(tags: list[tuple[LanguageTag, str]], text: str) -> str:
    """The tag, of several of one language, whose script has most letters of the text."""
    if len(tags) == 1:
        return tags[0][1]
    return max(tags, key=lambda it: _letters_of(it[0].written_language[1], text))[1]


def _letters_of(script: str, text: str) -> int:
    """The number of letters of a text that are in a script."""
    if script in _HAN_CODECS:
        own, other = _HAN_CODECS[script]
        return sum(_has(own, letter) and not _has(other, letter) for letter in text)
    return sum(script_of(letter) == _NAMES.get(script) for letter in text)


def _has(codec: str, letter: str) -> bool:
    try:
        letter.encode(codec)
    except UnicodeEncodeError:
        return False
    return True
