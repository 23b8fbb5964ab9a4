"""A registry of another process, mirrored: by real sockets, with both sides in this process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from dragoman_service.bundle.languages import Languages
from dragoman_service.bundle.manifest import Generation
from dragoman_service.engine.engine import Engine
from dragoman_service.engine.link import EngineLink
from dragoman_service.engine.request import DecodingOptions
from dragoman_service.errors import EngineLost, NotFound
from dragoman_service.repository.models import Route, ServedModel
from dragoman_service.repository.registry import Alias, ModelEntry, ModelRegistry
from dragoman_service.repository.sharing import HEALTH_SECONDS, SharedRegistry
from dragoman_service.translation import remote
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.remote import Mirror
from dragoman_service.translation.settings import RequestLimits
from support.fake_workers import FakeWorkers, served
from support.frontends import until

SECONDS = 30


class Observer:
    """What is watched, by model and version."""

    def __init__(self) -> None:
        self.watched: list[str] = []

    def watch(self, model, engine) -> None:  # type: ignore[no-untyped-def]
        self.watched.append(model.version)

    def forget(self, model, engine) -> None:  # type: ignore[no-untyped-def]
        self.watched.remove(model.version)

    def watch_gpu(self, bus_id: str) -> None:
        raise AssertionError


class Shared:
    """A shared registry, and the way to it."""

    def __init__(self, *models: ServedModel) -> None:
        self.front_end, self._engine_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.front_end.setblocking(False)
        self.registry = SharedRegistry(models)
        self.registry.start()
        threading.Thread(target=self._welcome, daemon=True).start()

    def restart(self, *models: ServedModel) -> None:
        """As if the process of the engines were replaced."""
        old, self.registry = self.registry, SharedRegistry(models)
        self.registry.start()
        old.close()

    def links(self) -> list[EngineLink]:
        return self.registry._links

    def _welcome(self) -> None:
        with suppress(OSError):
            while True:
                _, (descriptor,), _, _ = socket.recv_fds(self._engine_end, 64, 1)
                self.registry.join(socket.socket(fileno=descriptor))


def mirrored(shared: Shared, work: Callable[[Frontend, Observer], Awaitable[None]]) -> None:
    """Run `work` with a frontend whose models are those of `shared`."""

    async def run() -> None:
        observer, registry = Observer(), ModelRegistry()
        mirror = Mirror(registry, observer, shared.front_end)
        following = asyncio.create_task(mirror.run())
        await asyncio.wait_for(mirror.ready.wait(), SECONDS)
        frontend = Frontend(registry, RequestLimits())
        await asyncio.wait_for(work(frontend, observer), SECONDS)
        frontend.close()
        following.cancel()
        await asyncio.wait([following])

    asyncio.run(run())


async def text_of(frontend: Frontend, text: str, model: str = "") -> str:
    """The one translation of a text."""
    call = Call((text,), frontend.models.route(model, "", ""), DecodingOptions())
    return (await frontend.translate(call))[0].hypotheses[0].text


def model(version: str, **options: Any) -> ServedModel:
    return served(FakeWorkers(**options), version=version)


def test_models_and_aliases_are_those_of_the_other_process() -> None:
    one, two = model("1"), model("2")
    shared = Shared(one)

    async def work(frontend: Frontend, observer: Observer) -> None:
        assert await text_of(frontend, "abc. def.") == "ABC. DEF."
        long = "many words here. " * 500
        assert await text_of(frontend, long) == long.upper()
        shared.registry.replace("loud", ModelEntry({"1": one, "2": two}, "2", {"old": Alias("1", 0.25)}))
        await shared.registry.settled()
        entry = frontend.models.entries["loud"]
        assert (list(entry.versions), entry.default_version, entry.aliases) == (
            ["1", "2"],
            "2",
            {"old": Alias("1", 0.25)},
        )
        assert frontend.models.route("loud@old", "", "").model.description == one.description
        assert await text_of(frontend, "abc", "loud@2") == "ABC"
        assert observer.watched == ["1", "2"]
        shared.registry.replace("loud", None)
        await shared.registry.settled()
        with pytest.raises(NotFound):
            frontend.models.route("loud", "", "")
        assert observer.watched == []

    mirrored(shared, work)


def test_a_model_of_sets_is_described_as_in_the_other_process() -> None:
    languages = Languages((("ja", "en"),), ("en", "de"), ("de", "fr"))
    one = served(FakeWorkers(), languages=languages, licence="MIT", generation=Generation(2, 0.5, "power"))

    async def work(frontend: Frontend, observer: Observer) -> None:
        route = frontend.models.route("", "EN", "FR")
        assert (route.source_language, route.target_language) == ("en", "fr")
        assert route.model.description == one.description
        assert route.model.description.default_beam_size == 2

    mirrored(Shared(one), work)


def test_a_version_that_is_gone_is_forgotten_once_its_calls_have_ended() -> None:
    one, two = model("1", held=True), model("2")
    shared = Shared(one)

    async def work(frontend: Frontend, observer: Observer) -> None:
        running = asyncio.create_task(text_of(frontend, "abc"))
        await until(lambda: not one.engine.idle)
        shared.registry.replace("loud", ModelEntry({"2": two}, "2"))
        await shared.registry.settled()
        assert await text_of(frontend, "new") == "NEW"
        await asyncio.sleep(3 * HEALTH_SECONDS)
        (link,) = shared.links()
        assert len(link.models) == 2, "a call still runs"
        workers_of(one).release()
        assert await running == "ABC"
        await until(lambda: len(link.models) == 1)

    mirrored(shared, work)


def test_no_call_begins_by_an_older_registry_once_it_has_settled() -> None:
    """However the messages of many calls and of the change meet."""
    one, two = model("1"), model("2")
    shared = Shared(one)

    async def work(frontend: Frontend, observer: Observer) -> None:
        async def calls() -> None:
            for _ in range(100):
                await text_of(frontend, "abc")

        running = [asyncio.create_task(calls()) for _ in range(4)]
        for turn in range(20):
            here = (one, two)[turn % 2]
            shared.registry.replace("loud", ModelEntry({here.description.version: here}, here.description.version))
            await shared.registry.settled()
            gone = (two, one)[turn % 2]
            await until(lambda gone=gone: gone.engine.idle)  # type: ignore[misc]
            opened = workers_of(gone).submitted[:]
            await asyncio.sleep(0.01)
            assert workers_of(gone).submitted == opened
        for task in running:
            await task

    mirrored(shared, work)


def test_calls_of_an_engine_that_is_lost_fail_and_the_next_one_serves() -> None:
    one = model("1", held=True)
    shared = Shared(one)

    async def work(frontend: Frontend, observer: Observer) -> None:
        running = [asyncio.create_task(text_of(frontend, text)) for text in ("one", "two")]
        await until(lambda: len(workers_of(one).submitted) == 2)
        before = frontend.models.route("", "", "").model
        shared.restart(model("1"))
        for task in running:
            with pytest.raises(EngineLost, match="can be made again"):
                await task
        assert not before.engine.healthy
        with pytest.raises(EngineLost):
            await frontend.translate(Call(("a",), Route(before, "en", "de"), DecodingOptions()))
        await until(lambda: frontend.models.route("", "", "").model is not before)
        assert await text_of(frontend, "abc") == "ABC"
        assert frontend.models.route("", "", "").model.engine.healthy
        assert observer.watched == ["1"]

    mirrored(shared, work)


def test_a_silent_engine_is_not_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "SILENT_SECONDS", 0.5)
    shared = Shared(model("1"))

    async def work(frontend: Frontend, observer: Observer) -> None:
        engine = frontend.models.route("", "", "").model.engine
        await asyncio.sleep(1)
        assert engine.healthy
        with shared.registry._lock:  # nothing is reported
            await until(lambda: not engine.healthy)
        await until(lambda: engine.healthy)

    mirrored(shared, work)


def test_many_sentences_are_held_by_the_engine_where_the_front_cannot_know_the_window() -> None:
    shared = Shared(served(FakeWorkers(), permits=2))

    async def work(frontend: Frontend, observer: Observer) -> None:
        text = "one two. " * 30
        assert await text_of(frontend, text) == text.upper()

    mirrored(shared, work)


def test_no_more_sentences_are_in_the_engine_than_the_window() -> None:
    one = model("1", held=True)
    shared = Shared(one)

    async def work(frontend: Frontend, observer: Observer) -> None:
        text = "word. " * 100
        running = asyncio.create_task(text_of(frontend, text))
        await until(lambda: len(workers_of(one).submitted) == frontend.limits.window)
        await asyncio.sleep(0.1)
        (call,) = cast(Engine, one.engine)._calls.values()
        assert len(workers_of(one).submitted) == frontend.limits.window
        assert not call.held
        workers_of(one).release()
        assert await running == text.upper()

    mirrored(shared, work)


def workers_of(served_model: ServedModel) -> FakeWorkers:
    return cast(FakeWorkers, cast(Engine, served_model.engine)._workers)
