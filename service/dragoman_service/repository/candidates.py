"""The models that a request may mean, and which of them translates what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from dragoman_service.bundle.languages import MAX_SHOWN, Languages
from dragoman_service.errors import InvalidInput, NoLanguagePair, visible
from dragoman_service.repository.models import Route, ServedModel
from dragoman_service.text.language_tags import TagIndex, canonical

_LONGEST_LIST = 3_000
"""Characters of a list in a message: an error of gRPC has at most 8 KiB, and a server may have thousands of models."""
_PREFERRED_PIVOT = "en"
"""Most models are trained on more text with English on one side than with any other language."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Models in order of preference. A version has been drawn for those that the request names without one."""

    models: Sequence[ServedModel]

    def route(self, source_language: str, target_language: str) -> Route:
        """Find the model and the language pair for a request.

        Args:
            source_language: Empty: the only source language that fits.
            target_language: Empty: the only target language that fits.

        Raises:
            NoLanguagePair: no such language pair. The message lists the available ones.
            InvalidInput: several language pairs fit.
        """
        found = self._nearest if source_language and target_language else self._only
        route = found(source_language, target_language)
        if route is not None:
            return route
        languages = {model.description.name: model.description.languages for model in self.models}
        there = listed((f"{name}: {it.summary}" for name, it in languages.items()), len(languages), "; ")
        asked = f"{visible(source_language) or 'any'} to {visible(target_language) or 'any'}"
        raise NoLanguagePair(f"no language pair {asked}; there are: {there or 'no models'}")

    def pivot(self, source_language: str, target_language: str) -> tuple[Route, Route] | None:
        """A way from one language into another through a third one, through English if that is possible."""
        first: dict[str, Route] = {}
        for model in self.models:
            for source, middle in model.description.languages.matching(source_language, ""):
                first.setdefault(middle, Route(model, source, middle))
        middles = TagIndex(first)
        preferred = {middle for _, middle in middles.fits(_PREFERRED_PIVOT)}
        found = None
        for model in self.models:
            for middle, target in model.description.languages.matching("", target_language):
                for _, fitting in middles.fits(middle)[:1]:
                    way = first[fitting], Route(model, middle, target)
                    if fitting in preferred:
                        return way
                    found = found or way
        return found

    def sources(self, target_language: str) -> list[str]:
        """The languages from which the models translate into a language; an empty one stands for any.

        Each is returned once, as the first model writes it.
        """
        if target_language:
            pairs = (model.description.languages.matching("", target_language) for model in self.models)
            return _each_once(source for source, _ in chain.from_iterable(pairs))
        return _each_once(chain.from_iterable(model.description.languages.all_sources for model in self.models))

    def languages(self) -> list[str]:
        """The languages from and into which the models translate, as `sources` returns them."""
        targets = chain.from_iterable(model.description.languages.all_targets for model in self.models)
        return _each_once(chain(self.sources(""), targets))

    def _nearest(self, source: str, target: str) -> Route | None:
        """The route whose languages are nearest to those that are asked for; of several, that of the first model."""
        best: tuple[int, Route] | None = None
        for model in self.models:
            found = model.description.languages.nearest(source, target)
            if found is not None and (best is None or found[0] < best[0]):
                best = found[0], Route(model, *found[1])
                if found[0] == 0:
                    break
        return None if best is None else best[1]

    def _only(self, source: str, target: str) -> Route | None:
        """The only route of the first model that has any. Raises InvalidInput if it has several."""
        for model in self.models:
            languages = model.description.languages
            pairs = list(islice(languages.matching(source, target), 2))
            if len(pairs) > 1:
                raise _ambiguous(languages, source, target)
            if pairs:
                return Route(model, *pairs[0])
        return None


def _each_once(tags: Iterable[str]) -> list[str]:
    """The tags, without those that mean the same as one before."""
    found: dict[str, str] = {}
    for tag in tags:
        found.setdefault(canonical(tag), tag)
    return list(found.values())


def _ambiguous(languages: Languages, source: str, target: str) -> InvalidInput:
    """The error for a request that leaves open a language of which there are several."""
    pairs = list(islice(languages.matching(source, target), MAX_SHOWN + 1))
    if len(pairs) > MAX_SHOWN:
        choices = list(languages.matching(source, target)) if source or target else languages.all_sources
        allowed = f"one of {len(choices)} languages; ListModels lists them"
    else:
        allowed = "one of the languages of " + ", ".join(f"{one} to {other}" for one, other in pairs)
    return InvalidInput("target_language" if source else "source_language", "", allowed)


def listed(items: Iterable[str], count: int, separator: str = ", ") -> str:
    """The first of `count` items, and how many there are beside them."""
    texts: list[str] = []
    room = _LONGEST_LIST
    for text in items:
        room -= len(text) + len(separator)
        if room < 0:
            break
        texts.append(text)
    others = count - len(texts)
    return separator.join(texts + [f"and {others} others; ListModels lists them"] * (others > 0))
