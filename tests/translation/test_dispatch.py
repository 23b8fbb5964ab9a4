"""Texts of several languages in one call, and two models for one text."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.engine.request import DecodingOptions, Event, Failed, FinishReason, Request, Timings
from dragoman_service.errors import (
    DragomanError,
    EngineFailure,
    InvalidInput,
    NotFound,
    Overloaded,
)
from dragoman_service.repository.models import Route, ServedModel
from dragoman_service.repository.registry import ModelEntry, ModelRegistry
from dragoman_service.text.detection import Detector
from dragoman_service.text.markup.formats import TextFormat
from dragoman_service.translation.assembly import TextResult
from dragoman_service.translation.detection import Detection
from dragoman_service.translation.dispatch import Asked, Dispatcher, Way
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.settings import RequestLimits
from dragoman_service.translation.text_worker import TextWorker
from support.detector import detector
from support.fake_workers import FIRST, FakeWorkers, served, shout
from support.frontends import collect, until

GERMAN = "das Wetter ist heute sehr schön"
ENGLISH = "the weather is very nice today"
FRENCH = "il fait très beau aujourd'hui"
LIMITS = RequestLimits(max_texts=8, max_characters=1_000, window=4)


def translator(pair: str, workers: FakeWorkers | None = None, **fields: Any) -> ServedModel:
    """A model `en-de`, whose translations say so."""
    source, _, target = pair.partition("-")

    def translate(request: Request) -> list[Event]:
        mark = [FIRST + ord(letter) for letter in f"[{pair}]"]
        return shout(replace(request, source=(*mark, *request.source)))

    languages = Languages(((source, target),))
    return served(workers or FakeWorkers(translate), **{"name": pair, "languages": languages, **fields})


def on_dispatcher(
    models: Sequence[ServedModel],
    work: Callable[[Dispatcher, Frontend], Coroutine[Any, Any, Any]],
    limits: RequestLimits = LIMITS,
) -> Any:
    async def run() -> Any:
        frontend = Frontend(ModelRegistry(models), limits)
        frontend.detection = Detection(TextWorker(), load=detector)
        try:
            return await asyncio.wait_for(work(Dispatcher(frontend), frontend), 30)
        finally:
            frontend.close()
            for model in models:
                model.engine.close()

    return asyncio.run(run())


def make_call(route: Route, is_last: bool, **fields: Any) -> Call:
    return Call(**{"texts": (), "route": route, "options": DecodingOptions(), **fields})


def translate(
    models: Sequence[ServedModel], *texts: str, prefixes: Sequence[str] = (), make: Any = make_call, **asked: Any
) -> list[tuple[TextResult, Way]]:
    async def work(dispatcher: Dispatcher, _: Frontend) -> list[tuple[TextResult, Way]]:
        wanted = Asked(**{"model": "", "source_language": "", "target_language": "", **asked})
        ways = await dispatcher.ways(wanted, texts, "client")
        results = await dispatcher.translate(ways, texts, prefixes, make)
        return list(zip(results, ways, strict=True))

    found: list[tuple[TextResult, Way]] = on_dispatcher(models, work)
    return found


def shown(found: Sequence[tuple[TextResult, Way]]) -> list[str]:
    """Languages and translation of each text."""
    return [
        f"{way.source_language}>{way.target_language} {result.hypotheses[0].text}".rstrip() for result, way in found
    ]


def up(mark: str, text: str) -> str:
    return f"[{mark}]{text}".upper()


# --- detection


def test_texts_of_one_call_go_to_the_models_of_their_languages_and_keep_their_order() -> None:
    models = [translator("de-en"), translator("fr-en")]
    found = translate(models, GERMAN, FRENCH, ENGLISH, "123", GERMAN, "", target_language="en")
    assert shown(found) == [
        f"de>en {up('de-en', GERMAN)}",
        f"fr>en {up('fr-en', FRENCH)}",
        f"en>en {ENGLISH}",
        ">en 123",
        f"de>en {up('de-en', GERMAN)}",
        ">en",
    ]
    assert all(way.detected for _, way in found)


def test_with_both_languages_left_open_the_source_decides() -> None:
    models = [translator("de-en"), translator("en-de")]
    assert shown(translate(models, GERMAN, ENGLISH)) == [
        f"de>en {up('de-en', GERMAN)}",
        f"en>de {up('en-de', ENGLISH)}",
    ]
    with pytest.raises(InvalidInput, match="target_language: got ''; allowed: one of the languages of de to en, de to"):
        translate([served(FakeWorkers(), languages=Languages((), ("de", "en"), ("de", "en", "fr")))], GERMAN)


@pytest.mark.parametrize("models", [("en-de",), ("en-de", "en-fr", "de-en")])
def test_nothing_is_detected_if_one_source_language_is_possible(models: Sequence[str]) -> None:
    found = translate([translator(pair) for pair in models], FRENCH, target_language="de")
    assert shown(found) == [f"en>de {up('en-de', FRENCH)}"]
    assert not found[0][1].detected


def test_nothing_is_detected_if_the_caller_names_the_language() -> None:
    found = translate([translator("de-en"), translator("fr-en")], GERMAN, source_language="fra", target_language="EN")
    assert shown(found) == [f"fra>EN {up('fr-en', GERMAN)}"]
    assert not found[0][1].detected


def test_languages_that_no_detector_knows_are_to_be_named() -> None:
    models = [served(FakeWorkers(), languages=Languages((("tlh", "en"), ("qaa", "en"))))]
    with pytest.raises(InvalidInput, match="source_language: got ''; allowed: one of the languages of tlh to en, qaa"):
        translate(models, GERMAN, target_language="en")


def test_a_model_that_is_named_is_the_only_one() -> None:
    models = [translator("de-en"), served(FakeWorkers(), languages=Languages((), ("fr", "en", "nl"), ("en", "nl")))]
    (found,) = translate(models, FRENCH, model="loud", target_language="en")
    assert [route.model for route in found[1].routes] == [models[1]]
    (found,) = translate([translator("de-en"), translator("fr-en")], GERMAN, target_language="en", allowed=("fr-en",))
    assert found[1].source_language == "fr"


def test_prefixes_stay_with_their_texts() -> None:
    found = translate(
        [translator("de-en"), translator("fr-en")], GERMAN, FRENCH, prefixes=("A", "B"), target_language="en"
    )
    assert [result.hypotheses[0].text[0] for result, _ in found] == ["A", "B"]
    with pytest.raises(InvalidInput, match=r"target_prefixes\[1\]: got 'B'; allowed: nothing, for a text in which"):
        translate([translator("de-en"), translator("fr-en")], GERMAN, ENGLISH, prefixes=("", "B"), target_language="en")


@pytest.mark.parametrize(
    ("texts", "prefixes", "field"),
    [
        ((), (), "texts"),
        ((GERMAN,) * 9, (), "texts"),
        ((GERMAN, FRENCH, GERMAN + "a" * 1_000), (), "texts[2]"),
        ((GERMAN, FRENCH), ("a",), "target_prefixes"),
        ((GERMAN, FRENCH), ("a", "b" * 1_001), "target_prefixes[1]"),
    ],
)
def test_texts_are_counted_and_measured_as_the_caller_sent_them(
    texts: Sequence[str], prefixes: Sequence[str], field: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        translate([translator("de-en"), translator("fr-en")], *texts, prefixes=prefixes, target_language="en")
    assert caught.value.field == field


def test_a_refused_text_is_named_by_its_place_in_the_call() -> None:
    texts, prefixes = (GERMAN, FRENCH, GERMAN, "...", FRENCH), ("", "", "", "", "b" * 999)
    with pytest.raises(InvalidInput) as caught:
        translate([translator("de-en"), translator("fr-en")], *texts, prefixes=prefixes, target_language="en")
    assert caught.value.field == "target_prefixes[4]"


def test_options_of_every_model_are_checked_before_any_of_them_works() -> None:
    workers = FakeWorkers()

    def make(route: Route, is_last: bool) -> Call:
        if route.source_language == "fr":
            raise InvalidInput("beam_size", 99, "fewer")
        return make_call(route, is_last)

    with pytest.raises(InvalidInput, match="beam_size"):
        translate([translator("de-en", workers), translator("fr-en")], GERMAN, FRENCH, target_language="en", make=make)
    assert workers.submitted == []


def test_one_text_that_fails_ends_the_others() -> None:
    held = FakeWorkers(held=True)

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> None:
        texts = (GERMAN, FRENCH)
        ways = await dispatcher.ways(Asked("", "", "en"), texts, "")
        task = asyncio.create_task(dispatcher.translate(ways, texts, (), make_call))
        await until(lambda: len(held.submitted) == 1)
        with pytest.raises(EngineFailure):
            await task
        await until(lambda: len(held.cancelled) == 1)

    refusing = FakeWorkers(lambda request: [Failed(request.id, EngineFailure("broken"))])
    on_dispatcher([translator("de-en", held), translator("fr-en", refusing)], work)


def test_a_refusal_after_another_model_has_translated_counts_as_work() -> None:
    held = FakeWorkers(lambda request: [Failed(request.id, Overloaded("full"))], held=True)

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> DragomanError:
        texts = (GERMAN, FRENCH)
        ways = await dispatcher.ways(Asked("", "", "en"), texts, "")
        task = asyncio.create_task(dispatcher.translate(ways, texts, (), make_call))
        german = frontend.models.entries["de-en"].default.engine
        await until(lambda: bool(held.submitted) and bool(done.submitted) and german.permits.idle)
        held.release()
        with pytest.raises(Overloaded) as caught:
            await task
        return caught.value

    done = FakeWorkers()
    assert on_dispatcher([translator("de-en", done), translator("fr-en", held)], work).after_work


def test_a_call_of_many_languages_has_no_more_sentences_in_the_engine_than_any_other() -> None:
    workers = FakeWorkers(held=True)
    languages = Languages((), ("de", "fr", "nl"), ("en",))
    text = "\n".join("abcdefgh")

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> int:
        routes = [Route(frontend.models.models[0], source, "en") for source in ("de", "fr", "nl")]
        ways = [Way(route.source_language, "en", (route,)) for route in routes]
        task = asyncio.create_task(dispatcher.translate(ways, [text] * 3, (), make_call))
        await until(lambda: len(workers.submitted) >= 3)
        workers.release()
        assert [result.sentences for result in await task] == [8, 8, 8]
        return workers.most_running

    assert on_dispatcher([served(workers, languages=languages)], work) <= LIMITS.window


def test_a_language_without_a_way_is_refused_with_its_text() -> None:
    models = [translator("de-en"), translator("fr-nl")]
    with pytest.raises(NotFound, match=r"^texts\[1\]: no language pair fr to en; there are: de-en: de to en; fr-nl"):
        translate(models, GERMAN, FRENCH, target_language="en", allow_pivot=True)


def test_cancelling_a_call_cancels_it_at_every_model() -> None:
    workers = [FakeWorkers(held=True), FakeWorkers(held=True)]

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> None:
        ways = await dispatcher.ways(Asked("", "", "en"), (GERMAN, FRENCH), "")
        task = asyncio.create_task(dispatcher.translate(ways, (GERMAN, FRENCH), (), make_call))
        await until(lambda: all(it.submitted for it in workers))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: all(it.cancelled for it in workers))

    on_dispatcher([translator("de-en", workers[0]), translator("fr-en", workers[1])], work)


def test_the_detector_is_loaded_once_when_it_is_needed_and_again_after_a_failure() -> None:
    loads: list[str] = []

    def load() -> Detector:
        loads.append("")
        if len(loads) == 1:
            raise MemoryError
        return detector()

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> None:
        frontend.detection = Detection(TextWorker(), load)
        await dispatcher.ways(Asked("", "de", "en"), (GERMAN,), "")
        assert not loads
        with pytest.raises(MemoryError):
            await dispatcher.ways(Asked("", "", "en"), (GERMAN,), "")
        many = [asyncio.create_task(dispatcher.ways(Asked("", "", "en"), (GERMAN,), "")) for _ in range(8)]
        await asyncio.sleep(0)
        many[0].cancel()
        results = await asyncio.gather(*many, return_exceptions=True)
        assert isinstance(results[0], asyncio.CancelledError)
        assert [way.source_language for (way,) in results[1:]] == ["de"] * 7  # type: ignore[misc]
        assert len(loads) == 2

    on_dispatcher([translator("de-en"), translator("fr-en")], work)


def test_a_version_that_comes_while_languages_are_detected_is_the_one_that_translates() -> None:
    new = translator("de-en", version="2")

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> None:
        def load() -> Detector:
            frontend.models.replace("de-en", ModelEntry({"2": new}, "2"))
            return detector()

        frontend.detection = Detection(TextWorker(), load)
        (way,) = await dispatcher.ways(Asked("", "", "en"), (GERMAN,), "")
        assert way.routes[0].model is new

    on_dispatcher([translator("de-en"), translator("fr-en")], work)
    new.engine.close()


def test_many_long_texts_are_looked_at_on_a_thread() -> None:
    async def work(dispatcher: Dispatcher, _: Frontend) -> list[str]:
        texts = [f"{GERMAN} " * 30, f"{FRENCH} " * 30] * 4
        return [way.source_language for way in await dispatcher.ways(Asked("", "", "en"), texts, "client")]

    assert on_dispatcher([translator("de-en"), translator("fr-en")], work) == ["de", "fr"] * 4


def test_languages_of_texts_are_detected_without_a_translation() -> None:
    async def work(dispatcher: Dispatcher, _: Frontend) -> list[list[str]]:
        found = [
            *await dispatcher.detect((GERMAN, "1", ENGLISH), (), None, ""),
            *await dispatcher.detect((ENGLISH,), ("deu", "en_GB"), None, ""),
            *await dispatcher.detect((FRENCH,), (), ("fr-en",), ""),
        ]
        with pytest.raises(InvalidInput, match=r"languages\[1\]: got 'tlh'; allowed: one of ace, af, "):
            await dispatcher.detect((GERMAN,), ("de", "tlh"), None, "")
        with pytest.raises(InvalidInput, match=r"texts\[0\]"):
            await dispatcher.detect(("a" * 1_001,), (), None, "")
        return [[it.language for it in candidates] for candidates in found]

    german, nothing, english, restricted, allowed = on_dispatcher([translator("de-en"), translator("fr-en")], work)
    assert (german[0], nothing, english[0]) == ("de", [], "en")
    assert set(german) == set(english) == {"de", "fr", "en"}
    assert restricted == ["en_GB", "deu"]
    assert allowed == ["fr", "en"]


# --- two models


PIVOT = {"source_language": "de", "target_language": "fr", "allow_pivot": True}


def names(way: Way) -> list[str]:
    return [route.model.description.name for route in way.routes]


def test_two_models_translate_what_none_does_alone_if_the_request_allows_it() -> None:
    models = [translator("de-en"), translator("en-fr")]
    found = translate(models, GERMAN, GERMAN, source_language="de_DE", target_language="FR", allow_pivot=True)
    assert shown(found) == [f"de_DE>FR {up('en-fr', up('de-en', GERMAN))}"] * 2
    result, way = found[0]
    assert names(way) == ["de-en", "en-fr"]
    assert result.source_tokens == len(GERMAN) + 1
    assert result.timings == Timings(queue=0.5, encode=1.0, decode=(len(GERMAN) * 2 + 7 + 14) / 8)


def test_one_model_translates_what_it_can_alone() -> None:
    ((_, way),) = translate([translator("de-en"), translator("en-fr"), translator("de-fr")], GERMAN, **PIVOT)
    assert names(way) == ["de-fr"]
    with pytest.raises(NotFound, match="no language pair de to fr; there are: de-en: de to en; en-fr: en to fr"):
        translate([translator("de-en"), translator("en-fr")], GERMAN, **{**PIVOT, "allow_pivot": False})


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ("de-nl nl-fr de-en_US eng-fr", "de-en_US eng-fr"),
        ("de-nl nl-fr de-en", "de-nl nl-fr"),
        ("de-zh zh_TW-fr", ""),
        ("de-en nl-fr", ""),
        ("de-en en-nl nl-fr", ""),
    ],
)
def test_the_language_between_is_english_if_possible_and_always_one_language(pairs: str, expected: str) -> None:
    models = [translator(pair) for pair in pairs.split()]
    if expected:
        ((_, way),) = translate(models, GERMAN, **PIVOT)
        assert " ".join(names(way)) == expected
    else:
        with pytest.raises(NotFound):
            translate(models, GERMAN, **PIVOT)


def test_languages_are_detected_for_two_models_too() -> None:
    models = [translator("de-en"), translator("en-fr")]
    found = translate([*models, translator("fr-de")], GERMAN, ENGLISH, FRENCH, target_language="fra", allow_pivot=True)
    assert shown(found) == [
        f"de>fra {up('en-fr', up('de-en', GERMAN))}",
        f"en>fra {up('en-fr', ENGLISH)}",
        f"fra>fra {FRENCH}",
    ]


def test_options_prefixes_and_hypotheses_are_those_of_the_second_model() -> None:
    calls: list[Call] = []

    def make(route: Route, is_last: bool) -> Call:
        options = DecodingOptions(beam_size=2, num_hypotheses=2) if is_last else DecodingOptions(max_length=8)
        calls.append(make_call(route, is_last, options=options))
        return calls[-1]

    models = [translator("de-en"), translator("en-fr")]
    ((result, _),) = translate(
        models, "abcdef", prefixes=("P",), make=make, source_language="de", target_language="fr", allow_pivot=True
    )
    assert [it.text for it in result.hypotheses] == ["P[EN-FR][DE-EN]A", "P[EN-FR][DE-EN]A!"]
    assert {it.finish_reason for it in result.hypotheses} == {FinishReason.LENGTH}  # the first model was cut
    assert [call.route.target_language for call in calls] == ["en", "fr"]


def test_a_refusal_by_the_second_model_counts_as_work() -> None:
    full = translator("en-fr", permits=1)

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> DragomanError:
        ways = await dispatcher.ways(Asked("", "de", "fr", allow_pivot=True), (GERMAN,), "")
        frontend.models.entries["en-fr"].default.engine.close()
        with pytest.raises(DragomanError) as caught:
            await dispatcher.translate(ways, (GERMAN,), (), make_call)
        return caught.value

    assert on_dispatcher([translator("de-en"), full], work).after_work


@pytest.mark.parametrize("is_stream", [False, True])
def test_the_second_model_is_not_closed_before_the_first_one_is_done(is_stream: bool) -> None:
    held = FakeWorkers(held=True)

    async def work(dispatcher: Dispatcher, frontend: Frontend) -> None:
        (way,) = await dispatcher.ways(Asked("", "de", "fr", allow_pivot=True), (GERMAN,), "")
        second = frontend.models.entries["en-fr"].default.engine
        made = dispatcher.stream(way, GERMAN, "", make_call) if is_stream else None
        task = asyncio.create_task(collect(made) if made else dispatcher.translate([way], (GERMAN,), (), make_call))
        await until(lambda: bool(held.submitted))
        assert not second.idle
        held.release()
        assert (await task)[-1].sentences == 1
        assert second.idle

    on_dispatcher([translator("de-en", held), translator("en-fr")], work)


@pytest.mark.parametrize("fields", [{"format": TextFormat.HTML}, {"join_lines": True}, {"suppressed_words": ("x",)}])
def test_a_model_is_not_closed_while_texts_are_prepared_for_it(fields: dict[str, Any]) -> None:
    async def work(dispatcher: Dispatcher, frontend: Frontend) -> None:
        texts = ["<p>one two</p>" * 70] * 8  # are prepared on a thread
        ways = await dispatcher.ways(Asked("", "de", "en"), texts, "")
        task = asyncio.create_task(dispatcher.translate(ways, texts, (), partial(make_call, **fields)))
        await asyncio.sleep(0)
        assert not frontend.models.models[0].engine.idle
        await task
        assert frontend.models.models[0].engine.idle

    on_dispatcher([translator("de-en")], work)


def test_a_translation_between_that_is_too_long_is_refused() -> None:
    limits = replace(LIMITS, max_characters=len(GERMAN) + 2)

    async def work(dispatcher: Dispatcher, _: Frontend) -> None:
        ways = await dispatcher.ways(Asked("", "de", "fr", allow_pivot=True), (GERMAN,), "")
        with pytest.raises(InvalidInput, match="texts: got 'a text whose translation into en has 38 characters'"):
            await dispatcher.translate(ways, (GERMAN,), (), make_call)

    on_dispatcher([translator("de-en"), translator("en-fr")], work, limits)


def test_cancelling_stops_either_model() -> None:
    for at in (0, 1):
        workers = [FakeWorkers(held=at == 0), FakeWorkers(held=True)]

        async def work(
            dispatcher: Dispatcher, frontend: Frontend, at: int = at, workers: list[FakeWorkers] = workers
        ) -> None:
            ways = await dispatcher.ways(Asked("", "de", "fr", allow_pivot=True), (GERMAN,), "")
            task = asyncio.create_task(dispatcher.translate(ways, (GERMAN,), (), make_call))
            await until(lambda: bool(workers[at].submitted))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: bool(workers[at].cancelled))
            assert bool(workers[1].submitted) == bool(at)

        on_dispatcher([translator("de-en", workers[0]), translator("en-fr", workers[1])], work)


# --- streams


@pytest.mark.parametrize(
    ("asked", "text", "expected"),
    [
        (Asked("", "", "en"), GERMAN, up("de-en", GERMAN)),
        (Asked("", "", "en"), ENGLISH, ENGLISH),
        (Asked("", "", "en"), "", ""),
        (Asked("", "fr", "de", allow_pivot=True), FRENCH, up("en-de", up("fr-en", FRENCH))),
    ],
)
def test_a_stream_gives_the_translation_piece_by_piece(asked: Asked, text: str, expected: str) -> None:
    async def work(dispatcher: Dispatcher, _: Frontend) -> list[str | TextResult]:
        (way,) = await dispatcher.ways(asked, (text,), "")
        return await collect(dispatcher.stream(way, text, "", make_call))

    models = [translator("de-en"), translator("fr-en"), translator("en-de")]
    *pieces, result = on_dispatcher(models, work)
    assert "".join(pieces) == result.hypotheses[0].text == expected
    assert "" not in pieces
