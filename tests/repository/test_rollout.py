"""Versions going into service and out of it as their repository changes."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from dragoman_service.engine.request import DecodingOptions
from dragoman_service.repository.rollout import Rollout
from dragoman_service.translation.frontend import Call, Frontend
from dragoman_service.translation.settings import RequestLimits
from support.stage import Stage, until


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


# --- following


def test_an_empty_repository_is_followed_until_there_is_something(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        assert stage.registry.models == []
        stage.store.add_manifest("m", "1")
        await rollout.refresh()
        assert stage.serving() == ["1"]

    stage.play(act)


def test_a_version_is_loaded_then_switched_to_and_then_the_old_one_closed(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        await rollout.refresh()
        stage.store.add_manifest("m", "2")
        await rollout.refresh()
        await until(lambda: stage.engine("m@1").closed)
        assert stage.log == ["load 1, serving none", "load 2, serving 1", "close 1, serving 2"]

    stage.play(act)


def test_a_refresh_with_nothing_new_does_nothing(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1", "2")
        await rollout.refresh()
        before = stage.registry.entries["m"]
        stage.new_log()
        caplog.clear()
        for _ in range(3):
            await rollout.refresh()
        assert stage.registry.entries["m"] is before
        assert (stage.log, caplog.text) == ([], "")

    stage.play(act)


def test_a_bundle_changed_in_place_is_loaded_beside_the_old_one(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        await rollout.refresh()
        stage.store.add_manifest("m", "1", text="{ }")
        await rollout.refresh()
        await until(lambda: stage.engine("m@1", 0).closed)
        assert not stage.engine("m@1", 1).closed
        assert stage.registry.entries["m"].default is stage.loaded["m@1"][1]
        assert stage.metric("dragoman_slots_total", model="m", version="1") == 16

    stage.play(act)


def test_models_of_a_repository_are_followed_each_by_itself(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("a", "1", "2")
        stage.store.add_manifest("b", "1")
        stage.bad |= {"a@2"}
        await rollout.refresh()
        assert (stage.serving("a"), stage.serving("b")) == (["1"], ["1"])
        assert [(it.name, it.version, it.state) for it in rollout.status()] == [
            ("a", "1", "serving"),
            ("a", "2", "failed"),
            ("b", "1", "serving"),
        ]

    stage.play(act)


def test_what_vanishes_serves_on(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        stage.store.add_manifest("other", "1")
        await rollout.refresh()
        stage.store.remove("m")
        await rollout.refresh()
        assert stage.serving() == ["1"]
        assert not stage.engine("m@1").closed
        assert [(it.name, it.state) for it in rollout.status()] == [("m", "serving"), ("other", "serving")]

    stage.play(act)


# --- calls that run


def test_a_version_replaced_is_closed_when_its_last_call_has_ended(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dragoman_service.repository.rollout._IDLE_PERIOD", 0.001)

    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        await rollout.refresh()
        grant = stage.loaded["m@1"][0].engine.permits.take(1)
        stage.store.add_manifest("m", "2")
        await rollout.refresh()
        grant.enter(3)
        grant.expect(0)
        await asyncio.sleep(0.03)
        assert not stage.engine("m@1").closed  # the call has left, and its sentence is still in the engine
        grant.leave(3)
        await until(lambda: stage.engine("m@1").closed)

    stage.play(act)


def test_a_call_ends_with_the_version_that_it_began_with(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        stage.held = True
        await rollout.refresh()
        frontend = Frontend(stage.registry, RequestLimits(window=2))

        def call() -> Call:
            return Call(("a\nb\nc\nd",), stage.registry.route("m", "", ""), DecodingOptions())

        running = asyncio.create_task(frontend.translate(call()))
        await until(lambda: stage.engine("m@1").running == 2)
        stage.held = False
        stage.store.add_manifest("m", "2")
        await rollout.refresh()
        (result,) = await frontend.translate(call())
        assert len(stage.engine("m@2").submitted) == 4
        stage.engine("m@1").release()
        assert (await running)[0].hypotheses == result.hypotheses
        assert len(stage.engine("m@1").submitted) == 4
        await until(lambda: stage.engine("m@1").closed)
        frontend.close()

    stage.play(act)


@pytest.mark.parametrize("calls", [0, 1])
def test_the_end_closes_what_was_replaced_with_calls_or_without(stage: Stage, calls: int) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        await rollout.refresh()
        for _ in range(calls):
            stage.loaded["m@1"][0].engine.permits.take(1)
        stage.store.add_manifest("m", "2")
        await rollout.refresh()
        await rollout.close()
        assert stage.engine("m@1").closed
        assert not stage.engine("m@2").closed

    stage.play(act)


def test_the_end_closes_all_that_wait_for_their_turn_to_be_closed(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        names = [f"m{n}" for n in range(5)]
        for name in names:
            stage.store.add_manifest(name, "1")
        await rollout.refresh()
        for name in names:
            await rollout.unload(name)
        await rollout.close()
        assert all(stage.engine(f"{name}@1").closed for name in names)

    stage.play(act)


# --- metrics


def test_loads_are_counted_by_result_and_timed(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1", "2")
        stage.bad = {"m@2"}
        await rollout.refresh()
        assert stage.metric("dragoman_model_loads_total", model="m", result="success") == 1
        assert stage.metric("dragoman_model_loads_total", model="m", result="failure") == 1
        assert stage.metric("dragoman_model_load_duration_seconds_count", model="m") == 2

    stage.play(act)


def test_aliases_are_shown_as_they_are_in_force_and_versions_while_they_serve(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1", "2", "3")
        stage.store.aliases("m", stable="1", canary="2")
        stage.bad = {"m@3"}
        await rollout.refresh()
        assert stage.metric("dragoman_model_alias", model="m", version="2", alias="canary") == 1
        stage.store.aliases("m", stable="2", next="3")
        await rollout.refresh()
        await until(lambda: stage.metric("dragoman_slots_total", model="m", version="1") is None)
        assert stage.metric("dragoman_model_alias", model="m", version="2", alias="stable") == 1
        for version, alias in (("1", "stable"), ("2", "canary"), ("3", "next")):
            assert stage.metric("dragoman_model_alias", model="m", version=version, alias=alias) is None
        assert stage.metric("dragoman_slots_total", model="m", version="2") == 16

    stage.play(act)


def test_bundles_are_read_on_a_thread_of_their_own(stage: Stage) -> None:
    threads: set[str] = set()

    async def act(rollout: Rollout) -> None:
        stage.while_loading = lambda: threads.add(threading.current_thread().name)
        stage.store.add_manifest("m", "1", "2")
        stage.bad = {"m@2"}
        await rollout.refresh()
        assert threads == {"dragoman-rollout"}

    stage.play(act)
