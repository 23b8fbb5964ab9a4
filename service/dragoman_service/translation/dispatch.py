"""Finds the models for the texts of a call, which may be in several languages, and puts their translations in order."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Callable, Container, Iterator, Sequence, Sized
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from dragoman_service.engine.request import FinishReason, Hypothesis, Timings
from dragoman_service.errors import DragomanError, InvalidInput, NoLanguagePair
from dragoman_service.repository.candidates import Candidates
from dragoman_service.repository.models import Route, TextTokenizer
from dragoman_service.text.detection import Candidate
from dragoman_service.text.language_tags import canonical
from dragoman_service.translation.assembly import TextHypothesis, TextResult
from dragoman_service.translation.frontend import Call, Frontend

_MOST_AT_ONCE = 8
"""Groups of texts, each of one way, that are translated at the same time. They share the window of their call."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request says about models and languages. See `TranslateRequest` in translation.proto."""

    model: str
    source_language: str
    target_language: str
    allow_pivot: bool = False
    allowed: Container[str] | None = None
    """Names of models. Others are as if they were not there. None: all."""


@dataclass(frozen=True, slots=True)
class Way:
    """From the language of a text into the one that is asked for."""

    source_language: str
    """As the caller spells it, or, if the caller does not say, as the model does."""
    target_language: str
    routes: tuple[Route, ...]
    """One; two through a third language; none for a text that is copied."""
    detected: bool = False
    """Whether the source language was detected."""
    confidence: float = field(default=0.0, compare=False)
    """How likely it is, if it was detected. Texts that differ in this alone have the same way."""

    @property
    def tokenizer(self) -> TextTokenizer | None:
        """That of the tokens of the translation; None for a text that is copied."""
        return self.routes[-1].model.tokenizer if self.routes else None


MakeCall: TypeAlias = Callable[[Route, bool], Call]
"""The call, yet without texts, for a route and whether it is the last one of its way. Raises InvalidInput."""


class Dispatcher:
    """Translates the texts of a call, each by its way."""

    def __init__(self, frontend: Frontend) -> None:
        """To be called on the event loop of the frontend."""
        self._frontend = frontend

    async def ways(self, asked: Asked, texts: Sequence[str], client: str) -> list[Way]:
        """Find the way of each text, by detecting its language if the caller does not say which it is.

        Languages are detected if several are possible. A text that is in the target language already, or has no
        letters, is copied then.

        Raises:
            NotFound: no such model, version or language pair.
            InvalidInput: several language pairs fit, or the texts are too many or too long.
        """
        candidates = self._candidates(asked)
        if asked.source_language:
            return [_way(candidates, asked, asked.source_language)] * len(texts)
        sources = candidates.sources("" if asked.allow_pivot else asked.target_language)
        if len(sources) <= 1:
            return [_way(candidates, asked, "".join(sources))] * len(texts)
        self._frontend.check_sizes(texts)
        detection = self._frontend.detection
        known = list(filter((await detection.detector()).knows, sources))
        if len(known) <= 1:  # nothing to tell apart
            return [_way(self._candidates(asked), asked, "")] * len(texts)
        target = canonical(asked.target_language)
        possible = [it for it in known if canonical(it) != target] + [asked.target_language] * bool(target)
        found = await detection.detect(client, texts, possible)
        return _detected_ways(self._candidates(asked), asked, found)

    def _candidates(self, asked: Asked) -> Candidates:
        """The models in service now: those from before a wait may be closed."""
        return self._frontend.models.candidates(asked.model, asked.allowed)

    async def detect(
        self, texts: Sequence[str], languages: Sequence[str], allowed: Container[str] | None, client: str
    ) -> list[list[Candidate]]:
        """Detect the language of each text, among `languages`, or those of the models if there are none.

        Raises InvalidInput for a language that cannot be detected, and for texts that are too many or too long.
        """
        self._frontend.check_sizes(texts)
        detector = await self._frontend.detection.detector()
        for index, language in enumerate(languages):
            if not detector.knows(language):
                known = ", ".join(sorted(detector.languages))
                raise InvalidInput(f"languages[{index}]", language, f"one of {known}")
        possible = languages or self._frontend.models.candidates("", allowed).languages()
        return await self._frontend.detection.detect(client, texts, possible)

    async def score(
        self, ways: Sequence[Way], texts: Sequence[str], translations: Sequence[str], make_call: MakeCall
    ) -> list[Hypothesis]:
        """Score a translation of each text, in order, one way after the other. Raises as `Frontend.score`."""
        self._frontend.check_sizes(texts)
        if len(translations) != len(texts):
            raise InvalidInput("translations", f"{len(translations)} of them", f"{len(texts)}: one for each text")
        for index, way in enumerate(ways):
            if not way.routes:
                raise InvalidInput(f"texts[{index}]", texts[index], "text in a language that a model translates")
        made = [(make_call(way.routes[0], True), indices) for way, indices in _groups(ways).items()]
        found: dict[int, Hypothesis] = {}
        with self._held([call for call, _ in made]):
            for call, indices in made:
                own, given = (tuple(all_of[index] for index in indices) for all_of in (texts, translations))
                with _fields_of_the_call(indices), _after_work_of(found):
                    scored = await self._frontend.score(replace(call, texts=own), given)
                found.update(zip(indices, scored, strict=True))
        return [found[index] for index in range(len(texts))]

    async def translate(
        self, ways: Sequence[Way], texts: Sequence[str], prefixes: Sequence[str], make_call: MakeCall
    ) -> list[TextResult]:
        """Translate all texts, in order. `prefixes` is empty, or has one for each. Raises as `Frontend.translate`."""
        self._frontend.check_sizes(texts, prefixes)
        groups = _groups(ways)
        divisor = min(_MOST_AT_ONCE, len(groups))
        # All calls are made before any work is done: their options may not be allowed.
        made = [
            ([replace(call, window_divisor=divisor) for call in _calls(way, make_call)], indices)
            for way, indices in groups.items()
        ]
        with self._held([call for calls, _ in made for call in calls]):
            if len(made) == 1:
                return await self._translate(made[0][0], texts, prefixes)
            return await self._translate_groups(made, texts, prefixes, divisor)

    async def _translate_groups(
        self,
        made: Sequence[tuple[Sequence[Call], Sequence[int]]],
        texts: Sequence[str],
        prefixes: Sequence[str],
        most_at_once: int,
    ) -> list[TextResult]:
        """Translate groups of texts, each given by its calls and the indices of its texts, at the same time."""
        at_once = asyncio.Semaphore(most_at_once)
        results: dict[int, TextResult] = {}

        async def translate_group(calls: Sequence[Call], indices: Sequence[int]) -> None:
            own = [prefixes[index] for index in indices] if prefixes else ()
            async with at_once:
                with _fields_of_the_call(indices):
                    found = await self._translate(calls, [texts[index] for index in indices], own)
            results.update(zip(indices, found, strict=True))

        try:
            async with asyncio.TaskGroup() as running:
                for calls, indices in made:
                    running.create_task(translate_group(calls, indices))
        except BaseExceptionGroup as failed:
            error = failed.exceptions[0]
            if isinstance(error, DragomanError):
                error.after_work = error.after_work or any(result.sentences for result in results.values())
            raise error from None
        return [results[index] for index in range(len(texts))]

    async def stream(
        self, way: Way, text: str, prefix: str, make_call: MakeCall
    ) -> AsyncGenerator[str | TextResult, None]:
        """Translate one text: as `Frontend.stream`. Of two models, the first one translates the text before the second
        one begins.
        """
        prefixes = (prefix,) if prefix else ()
        self._frontend.check_sizes((text,), prefixes)
        calls = _calls(way, make_call)
        if not calls:
            (copy,) = _copied((text,), prefixes)
            if text:
                yield text
            yield copy
            return
        with self._held(calls):
            middle, first = await self._until_last(calls, (text,))
            last = replace(calls[-1], texts=tuple(middle), target_prefixes=prefixes)
            with _after_work_of(first):
                async with aclosing(self._frontend.stream(last)) as pieces:
                    async for piece in pieces:
                        yield _joined(first[0], piece) if first and isinstance(piece, TextResult) else piece

    def _held(self, calls: Sequence[Call]) -> AbstractContextManager[None]:
        """The context in which the models of these calls stay in service, if not all is sent to an engine at once."""
        if len(calls) == 1 and not calls[0].waits:
            return nullcontext()
        return self._frontend.held(dict.fromkeys(call.route.model for call in calls))

    async def _translate(
        self, calls: Sequence[Call], texts: Sequence[str], prefixes: Sequence[str]
    ) -> list[TextResult]:
        if not calls:
            return _copied(texts, prefixes)
        middle, first = await self._until_last(calls, texts)
        with _after_work_of(first):
            last = await self._frontend.translate(
                replace(calls[-1], texts=tuple(middle), target_prefixes=tuple(prefixes))
            )
        return [_joined(*both) for both in zip(first, last, strict=True)] if first else last

    async def _until_last(
        self, calls: Sequence[Call], texts: Sequence[str]
    ) -> tuple[Sequence[str], Sequence[TextResult]]:
        """The texts for the last model, and the results of the model before it; no results if there is none."""
        if len(calls) == 1:
            return texts, ()
        results = await self._frontend.translate(replace(calls[0], texts=tuple(texts)))
        middle = [result.hypotheses[0].text for result in results]
        most, longest = self._frontend.limits.max_characters, max(map(len, middle))
        if longest > most:
            shown = f"a text whose translation into {calls[0].route.target_language} has {longest} characters"
            error = InvalidInput("texts", shown, f"at most {most}; send it in parts")
            error.after_work = True
            raise error
        return middle, results


def _groups(ways: Sequence[Way]) -> dict[Way, list[int]]:
    """The indices of the texts of each way."""
    groups: dict[Way, list[int]] = {}
    for index, way in enumerate(ways):
        groups.setdefault(way, []).append(index)
    return groups


def _calls(way: Way, make_call: MakeCall) -> list[Call]:
    return [make_call(route, route is way.routes[-1]) for route in way.routes]


@contextmanager
def _fields_of_the_call(indices: Sequence[int]) -> Iterator[None]:
    """Errors inside name `texts[i]` and its like by their index in the call, which is `indices[i]`."""
    try:
        yield
    except InvalidInput as error:
        if found := re.fullmatch(r"(texts|target_prefixes|translations)\[(\d+)\]", error.field):
            error.rename(f"{found[1]}[{indices[int(found[2])]}]")
        raise


@contextmanager
def _after_work_of(results: Sized) -> Iterator[None]:
    """Write on an error that the call had been worked on, if there are results."""
    try:
        yield
    except DragomanError as error:
        error.after_work = error.after_work or bool(results)
        raise


def _way(candidates: Candidates, asked: Asked, source_language: str, *, detected: bool = False) -> Way:
    try:
        routes: tuple[Route, ...] = (candidates.route(source_language, asked.target_language),)
    except NoLanguagePair:
        possible = asked.allow_pivot and source_language and asked.target_language
        pivot = candidates.pivot(source_language, asked.target_language) if possible else None
        if pivot is None:
            raise
        routes = pivot
    return Way(
        source_language=asked.source_language or routes[0].source_language,
        target_language=asked.target_language or routes[-1].target_language,
        routes=routes,
        detected=detected,
    )


def _detected_ways(candidates: Candidates, asked: Asked, found: Sequence[Sequence[Candidate]]) -> list[Way]:
    ways: dict[str, Way] = {}
    for index, languages in enumerate(found):
        source = languages[0].language if languages else ""
        if source in ways:
            continue
        if source in ("", asked.target_language):
            ways[source] = Way(source, asked.target_language, (), detected=True)
            continue
        try:
            ways[source] = _way(candidates, asked, source, detected=True)
        except NoLanguagePair as error:
            raise NoLanguagePair(f"texts[{index}]: {error}") from None
    return [
        replace(ways[languages[0].language], confidence=languages[0].confidence) if languages else ways[""]
        for languages in found
    ]


def _copied(texts: Sequence[str], prefixes: Sequence[str]) -> list[TextResult]:
    for index, prefix in enumerate(prefixes):
        if prefix:
            raise InvalidInput(
                f"target_prefixes[{index}]", prefix, "nothing, for a text in which there is nothing to translate"
            )
    return [
        TextResult((TextHypothesis(text, 0.0, (), (), FinishReason.STOP),), Timings(), source_tokens=0, sentences=0)
        for text in texts
    ]


def _joined(first: TextResult, last: TextResult) -> TextResult:
    """The result of two models, of which the second has translated what the first one gave."""
    # What says where something stands in the text between would be taken for a place in the source.
    hypotheses = tuple(replace(it, sentences=()) for it in last.hypotheses)
    cut = first.hypotheses[0].finish_reason
    if cut is not FinishReason.STOP:
        hypotheses = tuple(replace(it, finish_reason=cut) for it in hypotheses)
    return replace(
        last,
        hypotheses=hypotheses,
        warnings=(*first.warnings, *(replace(it, start=0, end=0) for it in last.warnings)),
        source_tokens=first.source_tokens,
        timings=Timings(
            queue=first.timings.queue + last.timings.queue,
            encode=first.timings.encode + last.timings.encode,
            decode=first.timings.decode + last.timings.decode,
        ),
    )
