"""Aliases that operators set and delete while versions serve."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_service.errors import BundleError, RepositoryError
from dragoman_service.repository.rollout import Rollout
from support.stage import Stage, refused, state_of, until, written


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Three versions of a model, of which the newest is to serve."""
    stage = Stage(tmp_path)
    stage.store.add_manifest("m", "1", "2", "3")
    return stage


def test_an_alias_is_written_and_in_force(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        await rollout.set_alias("m", "stable", "2")
        assert (stage.serving(), stage.default()) == (["2"], "2")
        await rollout.set_alias("m", "canary", "3", 0.25)
        assert (stage.serving(), stage.in_force()) == (["2", "3"], {"stable": "2", "canary": "3"})
        assert written(stage) == {
            "canary": {"version": "3", "share": 0.25},
            "stable": {"version": "2", "share": 0.0},
        }
        await rollout.refresh()
        assert stage.in_force() == {"stable": "2", "canary": "3"}
        await rollout.delete_alias("m", "stable")
        assert (stage.serving(), written(stage).keys()) == (["3"], {"canary"})

    stage.play(act)


def test_what_an_alias_means_is_loaded_before_it_is_written(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        stage.while_loading = lambda: stage.log.append(
            str(stage.store.files.exists(f"{stage.store.root}/m/aliases.json"))
        )
        stage.new_log()
        await rollout.set_alias("m", "canary", "1", 0.5)
        assert stage.log == ["load 1, serving 3", "False"]

    stage.play(act)


def test_an_alias_for_what_cannot_be_loaded_changes_nothing(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.set_alias("m", "stable", "3")
        before, text = stage.registry.entries["m"], written(stage)
        stage.bad = {"m@2"}
        await refused(rollout.set_alias("m", "stable", "2"), BundleError, "it is bad")
        assert stage.registry.entries["m"] is before
        assert written(stage) == text
        assert state_of(rollout, "2") == "failed"
        stage.bad = set()
        await rollout.set_alias("m", "stable", "2")
        assert stage.serving() == ["2"]

    stage.play(act)


def test_an_alias_that_cannot_be_written_changes_nothing_and_closes_what_was_loaded(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(name: str, aliases: object) -> None:
        raise RepositoryError("m/aliases.json cannot be written: No space left on device")

    async def act(rollout: Rollout) -> None:
        await rollout.set_alias("m", "canary", "2")
        before, text = stage.registry.entries["m"], written(stage)
        monkeypatch.setattr(stage.repository, "write_aliases", full)
        await refused(rollout.set_alias("m", "canary", "1"), RepositoryError, "No space left")
        await refused(rollout.delete_alias("m", "canary"), RepositoryError, "No space left")
        assert stage.registry.entries["m"] is before
        assert written(stage) == text
        await until(lambda: stage.engine("m@1").closed)
        assert not stage.engine("m@2").closed
        monkeypatch.undo()
        await rollout.refresh()
        assert stage.registry.entries["m"] == before

    stage.play(act)


def test_going_back_is_not_held_up_by_another_alias_whose_version_is_bad(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.aliases("m", stable="2", canary="3", spare="1")
        stage.bad = {"m@3"}
        await rollout.refresh()
        assert stage.in_force() == {"stable": "2", "spare": "1"}
        stage.new_log()
        await rollout.set_alias("m", "stable", "1")
        assert (stage.default(), stage.log) == ("1", [])
        await rollout.delete_alias("m", "spare")
        assert written(stage).keys() == {"stable", "canary"}

    stage.play(act)


def test_to_delete_an_alias_loads_nothing_that_was_unloaded(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.aliases("m", stable="3", canary="2", spare="1")
        await rollout.refresh()
        await rollout.unload("m")
        await rollout.delete_alias("m", "spare")
        assert stage.serving() == []
        await rollout.set_alias("m", "canary", "2")
        assert stage.serving() == ["2"]

    stage.play(act)


def test_changes_see_the_repository_as_it_is_now(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        stage.store.add_manifest("m", "4")
        stage.store.aliases("m", theirs=("1", 0.5))  # another server's operator
        await rollout.set_alias("m", "stable", "4")
        assert written(stage).keys() == {"stable", "theirs"}
        assert (stage.serving(), stage.default()) == (["1", "4"], "4")

    stage.play(act)
