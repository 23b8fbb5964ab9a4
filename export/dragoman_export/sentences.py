"""Built-in source sentences: golden ones, with which an export is verified, and varied ones, which calibrate int8.

The files `builtin/LANGUAGE.txt` have the same sentences in every language, one per line, the golden ones first.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from importlib import resources

GOLDEN = 24
"""Number of golden sentences at the beginning of each file. A bundle's golden sentences change with them."""
SCRIPTS = {
    "ar": "Arab", "bg": "Cyrl", "ca": "Latn", "cs": "Latn", "da": "Latn", "de": "Latn", "el": "Grek", "en": "Latn",
    "es": "Latn", "et": "Latn", "fa": "Arab", "fi": "Latn", "fr": "Latn", "he": "Hebr", "hi": "Deva", "hr": "Latn",
    "hu": "Latn", "id": "Latn", "it": "Latn", "ja": "Jpan", "ko": "Kore", "lt": "Latn", "lv": "Latn", "ms": "Latn",
    "nb": "Latn", "nl": "Latn", "pl": "Latn", "pt": "Latn", "ro": "Latn", "ru": "Cyrl", "sk": "Latn", "sl": "Latn",
    "sr": "Cyrl", "sv": "Latn", "sw": "Latn", "ta": "Taml", "th": "Thai", "tl": "Latn", "tr": "Latn", "uk": "Cyrl",
    "ur": "Arab", "vi": "Latn", "zh": "Hans", "zh-Hant": "Hant",
}  # fmt: skip
"""Language with a file -> the script of its sentences, ISO 15924."""
_SAME = {
    "arb": "ar", "cmn": "zh", "ekk": "et", "fil": "tl", "lvs": "lv", "no": "nb", "pes": "fa", "swh": "sw", "zsm": "ms",
}  # fmt: skip
"""Tag -> the language of the file, where a group of languages and its standard member have tags of their own."""
_HANT_REGIONS = ("HK", "MO", "TW")


class _BuiltIn(Mapping[str, tuple[str, ...]]):
    """Language -> sentences. A file is read when its language is first asked for."""

    def __init__(self, most: int | None) -> None:
        self._most = most

    def __getitem__(self, language: str) -> tuple[str, ...]:
        if language not in SCRIPTS:
            raise KeyError(language)
        return _read(language)[: self._most]

    def __iter__(self) -> Iterator[str]:
        return iter(SCRIPTS)

    def __len__(self) -> int:
        return len(SCRIPTS)


BUILT_IN: Mapping[str, tuple[str, ...]] = _BuiltIn(GOLDEN)
"""Language -> golden sentences, which are the same in every language."""
CALIBRATION: Mapping[str, tuple[str, ...]] = _BuiltIn(None)
"""Language -> the golden sentences and 40 more: questions, lists, numbers, headlines, instructions, long sentences."""


def built_in_language(tag: str) -> str | None:
    """The key of `BUILT_IN` for a BCP 47 tag, None if there is none: `de-AT` -> `de`, `zh-TW` -> `zh-Hant`.

    A tag that names another script than the file's has none: `sr-Latn`.
    """
    language, *others = tag.split("-")
    language = _SAME.get(language, language)
    script = next((it.title() for it in others if len(it) == 4 and it.isalpha()), None)
    traditional = script == "Hant" or (script is None and any(it.upper() in _HANT_REGIONS for it in others))
    if language == "zh" and traditional:
        return "zh-Hant"
    return language if language in SCRIPTS and script in (None, SCRIPTS[language]) else None


@functools.cache
def _read(language: str) -> tuple[str, ...]:
    file = resources.files("dragoman_export") / "builtin" / f"{language}.txt"
    return tuple(file.read_text(encoding="utf-8").removesuffix("\n").split("\n"))
