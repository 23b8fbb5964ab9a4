"""Language tags: one spelling for each (BCP 47, RFC 5646), and which tag means what another one means."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from dragoman_service.text.language_data import (
    BIBLIOGRAPHIC,
    MACROLANGUAGES,
    OTHER_SCRIPTS,
    REPLACED,
    REPLACED_REGIONS,
    SAME_LANGUAGE,
    SCRIPTS_OF_REGIONS,
    SEVERAL_SCRIPTS,
    TWO_LETTERS,
)

_LONGEST = 100
"""Characters of a tag. RFC 5646 asks for room for 35."""
_LOCALE = re.compile(r"([^.@]*)(?:\.[\w-]+)?(?:@([\w-]+))?", re.ASCII)
"""A POSIX locale: `sr_RS.UTF-8@latin`."""
_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-(?P<extended>[a-z]{3}(?:-[a-z]{3}){0,2}))?(?:-(?P<script>[a-z]{4}))?"
    r"(?:-(?P<region>[a-z]{2}|[0-9]{3}))?(?P<rest>(?:-(?:[a-z0-9]{5,8}|[0-9][a-z0-9]{3}))*"
    r"(?:-[a-wyz0-9](?:-[a-z0-9]{2,8})+)*(?:-x(?:-[a-z0-9]{1,8})+)?)"
)
_MODIFIERS = {"latin": "latn", "cyrillic": "cyrl", "devanagari": "deva"}
"""Modifier of a POSIX locale -> its script."""
_NO_REGION = ("XX", "ZZ")
"""What stands for no region, as in the codes of mBART."""
_SAME_SCRIPT = {"Hang": "Kore", "Hrkt": "Jpan"}


@dataclass(frozen=True, slots=True)
class LanguageTag:
    """A language tag, taken apart. `str` gives its canonical spelling."""

    language: str
    """ISO 639-1 where there is such a code, else ISO 639-3."""
    script: str = ""
    """ISO 15924. Empty: the one that the language has in the region, or it has one script alone."""
    region: str = ""
    """ISO 3166-1 or UN M.49. Empty: none."""
    rest: str = ""
    """Variants, extensions and private use, in lower case, with a hyphen in front."""

    def __str__(self) -> str:
        parts = (self.language, self.script, self.region)
        return "-".join(part for part in parts if part) + self.rest

    @property
    def written_language(self) -> tuple[str, str]:
        """Language and script. Tags that differ here never stand for each other."""
        script = self.script or _usual_script(self.language, self.region)
        return SAME_LANGUAGE.get(self.language, self.language), script

    def distance(self, other: LanguageTag) -> int:
        """How far another tag of the same written language is: 0, the same; 1, only one of the two names a region;
        2, another region or variant.
        """
        if self.rest != other.rest or (self.region and other.region and self.region != other.region):
            return 2
        return int(self.region != other.region)


def parse_tag(text: str) -> LanguageTag | None:
    """Take a tag apart: BCP 47 in any case, with hyphens or underscores; a POSIX locale; codes of ISO 639-2 and 639-3;
    codes of NLLB, mBART and Argos Translate. None if the text is none of these.
    """
    # Only what can be a tag is kept in the cache: callers send any text.
    return _parse(text.lower().replace("_", "-")) if len(text) <= _LONGEST and text.isascii() else None


def canonical(text: str) -> str:
    """The canonical spelling of a tag: `deu_DE` is de-DE, `eng_Latn` is en. What is no tag is returned as it is."""
    tag = parse_tag(text)
    return text if tag is None else str(tag)


@lru_cache(maxsize=4096)
def _parse(text: str) -> LanguageTag | None:
    locale = _LOCALE.fullmatch(text)
    if locale is None:
        return None
    plain = locale[1]
    plain = REPLACED.get(plain, plain).lower()
    match = _TAG.fullmatch(plain)
    if match is None:
        return None
    # A language like `zh-yue` is that of its last subtag.
    code = (match["extended"] or match["language"]).rpartition("-")[2]
    language, _, script = REPLACED.get(language_of(code), language_of(code)).partition("-")
    script = match["script"] or _MODIFIERS.get(locale[2], script)
    region = (match["region"] or "").upper()
    region = "" if region in _NO_REGION else REPLACED_REGIONS.get(region, region)
    script = _SAME_SCRIPT.get(script.title(), script.title())
    if script == _usual_script(language, region) and language not in SEVERAL_SCRIPTS:
        script = ""
    return LanguageTag(language, script, region, match["rest"])


def language_of(code: str) -> str:
    """The language subtag for a code of ISO 639: of two letters where there is one, and that of the macrolanguage for
    its most spoken member.
    """
    code = BIBLIOGRAPHIC.get(code, code)
    return MACROLANGUAGES.get(code) or TWO_LETTERS.get(code, code)


def _usual_script(language: str, region: str) -> str:
    """The script of a language in a region, for a tag that names none."""
    return SCRIPTS_OF_REGIONS.get((language, region)) or OTHER_SCRIPTS.get(language, "Latn")


class TagIndex:
    """Tags that are offered, and which of them a tag that is asked for means. Its size does not matter for the time."""

    def __init__(self, tags: Iterable[str]) -> None:
        """A tag that occurs twice, in whatever case, is offered as it is written first."""
        self._exact: dict[str, str] = {}
        self._parsed: dict[tuple[str, str], list[tuple[LanguageTag, str]]] = {}
        for text in tags:
            if text.lower() in self._exact:
                continue
            self._exact[text.lower()] = text
            if (tag := parse_tag(text)) is not None:
                self._parsed.setdefault(tag.written_language, []).append((tag, text))

    def fits(self, tag: str) -> list[tuple[int, str]]:
        """The offered tags that can stand for `tag`, each with its distance, the nearest first.

        They have the same language in the same script. Distances: 0 for the same spelling, apart from case; 1 for the
        same language; 2 if only one of the tags names a region; 3 for another region or variant.
        """
        exact = self._exact.get(tag.lower())
        found = [] if exact is None else [(0, exact)]
        if (asked := parse_tag(tag)) is not None:
            for offered, text in self._parsed.get(asked.written_language, ()):
                if text != exact:
                    found.append((1 + asked.distance(offered), text))
        return sorted(found, key=lambda it: it[0])
