"""What operators have done: versions loaded and unloaded by name, aliases set and deleted."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.errors import BundleError, Conflict, DragomanError, InvalidInput, NotFound, RepositoryError
from dragoman_service.repository.repository import Repository
from dragoman_service.repository.rollout import Rollout
from support.stage import Stage, refused, state_of, until, written


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Three versions of a model, of which the newest is to serve."""
    stage = Stage(tmp_path)
    stage.store.add_manifest("m", "1", "2", "3")
    return stage


# --- loading and unloading


def test_a_version_loaded_by_name_serves_beside_the_default_and_stays(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        await rollout.load("m", "1")
        assert (stage.serving(), stage.default()) == (["1", "3"], "3")
        await rollout.refresh()
        assert stage.serving() == ["1", "3"]
        await rollout.unload("m", "1")
        assert stage.serving() == ["3"]
        await until(lambda: stage.engine("m@1").closed)

    stage.play(act)


def test_a_load_without_a_version_is_of_the_newest_that_the_repository_has_now(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.aliases("m", stable="1")
        await rollout.refresh()
        stage.store.add_manifest("m", "10")
        await rollout.load("m")
        assert (stage.serving(), stage.default()) == (["1", "10"], "1")

    stage.play(act)


def test_a_load_that_fails_raises_what_is_wrong_and_changes_nothing(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        before = stage.registry.entries["m"]
        stage.bad = {"m@1"}
        await refused(rollout.load("m", "1"), BundleError, "it is bad")
        assert stage.registry.entries["m"] is before
        assert state_of(rollout, "1") == "failed"
        await rollout.refresh()
        assert stage.new_log() == ["load 3, serving none", "load 1, serving 3"]
        stage.bad = set()
        await rollout.load("m", "1")  # what failed is tried again when it is asked for
        assert stage.serving() == ["1", "3"]

    stage.play(act)


def test_what_was_loaded_for_a_load_that_fails_is_closed(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.bad = {"m@1"}
        await refused(rollout.load("m", "1"), BundleError, "it is bad")  # 3 is to serve too, and was not there yet
        assert stage.log[0:2] == ["load 1, serving none", "load 3, serving none"]
        assert stage.serving() == []
        await until(lambda: stage.engine("m@3").closed)

    stage.play(act)


def test_what_takes_the_place_of_a_version_unloaded_comes_first(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        stage.new_log()
        await rollout.unload("m", "3")
        assert (stage.serving(), state_of(rollout, "3")) == (["2"], "unloaded")
        await until(lambda: stage.engine("m@3").closed)
        assert stage.log == ["load 2, serving 3", "close 3, serving 2"]
        await rollout.refresh()
        assert stage.serving() == ["2"]
        await rollout.load("m", "3")
        assert stage.serving() == ["3"]

    stage.play(act)


def test_what_was_loaded_by_name_and_unloaded_is_not_wanted_any_more(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.load("m", "1")
        await rollout.unload("m", "1")
        await rollout.set_alias("m", "spare", "1")
        assert stage.serving() == ["1", "3"]
        await rollout.delete_alias("m", "spare")
        assert stage.serving() == ["3"]

    stage.play(act)


def test_if_the_next_version_is_bad_the_one_before_it_takes_the_place(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        stage.bad = {"m@2"}
        await rollout.unload("m", "3")
        assert stage.serving() == ["1"]

    stage.play(act)


def test_a_model_unloaded_whole_is_gone_until_one_of_its_versions_is_loaded(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.aliases("m", canary="2")
        await rollout.refresh()
        await rollout.unload("m")
        await rollout.refresh()
        assert "m" not in stage.registry.entries
        assert [it.state for it in rollout.status()] == ["unloaded"] * 3
        await rollout.load("m", "1")
        assert (stage.serving(), stage.default()) == (["1"], "1")

    stage.play(act)


def test_a_model_unloaded_whole_stays_so_when_a_version_is_published_and_after_a_restart(stage: Stage) -> None:
    async def unload(rollout: Rollout) -> None:
        await rollout.refresh()
        await rollout.unload("m")
        stage.store.add_manifest("m", "4")
        await rollout.refresh()
        assert "m" not in stage.registry.entries
        assert state_of(rollout, "4") == "unloaded"

    async def restarted(rollout: Rollout) -> None:
        await rollout.refresh()
        assert "m" not in stage.registry.entries
        await rollout.load("m")
        assert stage.serving() == ["4"]
        stage.store.add_manifest("m", "5")
        await rollout.refresh()  # it is followed again
        assert stage.serving() == ["4", "5"]

    stage.play(unload)
    stage.play(restarted)


@pytest.mark.parametrize("file", ["serving.toml", "aliases.json", "unloaded.json"])
def test_what_was_unloaded_does_not_come_back_at_a_restart_with_a_damaged_file(stage: Stage, file: str) -> None:
    async def unload(rollout: Rollout) -> None:
        await rollout.refresh()
        await rollout.unload("m", "3")
        assert stage.serving() == ["2"]

    async def restarted(rollout: Rollout) -> None:
        stage.store.write(f"m/{file}", "{")
        await rollout.refresh()
        # Where it cannot be told which are unloaded, all are.
        assert "m" not in stage.registry.entries if file == "unloaded.json" else stage.serving() == ["2"]

    stage.play(unload)
    stage.registry.replace("m", None)
    stage.play(restarted)


def test_an_alias_that_cannot_be_written_leaves_what_is_unloaded_as_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(*arguments: object) -> None:
        raise RepositoryError("m/aliases.json cannot be written: No space left on device")

    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        await rollout.unload("m")
        monkeypatch.setattr(Repository, "write_aliases", full_disk)
        await refused(rollout.set_alias("m", "canary", "1"), RepositoryError, "aliases.json cannot be written")
        await rollout.refresh()
        assert "m" not in stage.registry.entries

    stage.play(act)


def test_what_cannot_be_noted_in_the_repository_is_not_unloaded(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*arguments: object) -> None:
        raise RepositoryError("m/unloaded.json cannot be written: No space left on device")

    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        before = stage.serving()
        monkeypatch.setattr(Repository, "write_unloaded", full_disk)
        await refused(rollout.unload("m"), RepositoryError, "unloaded.json cannot be written")
        assert stage.serving() == before

    stage.play(act)


def test_a_version_with_an_alias_is_not_unloaded(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.aliases("m", stable="2", safe="2")
        await rollout.refresh()
        await refused(rollout.unload("m", "2"), Conflict, "version 2 of m has the alias stable, safe: move or delete")
        assert stage.serving() == ["2"]
        assert state_of(rollout, "2") == "serving"

    stage.play(act)


# --- refusing


@pytest.mark.parametrize(
    ("change", "arguments", "kind", "message"),
    [
        ("load", ("x",), NotFound, "no model 'x' in the repository; there are: m, other"),
        ("load", ("m", "9"), NotFound, "no version '9' of m in the repository; there are: 1, 2, 3"),
        ("unload", ("x",), NotFound, "no model 'x'"),
        ("unload", ("m", "9"), NotFound, "no version '9'"),
        ("set_alias", ("m", "stable", "9"), NotFound, "no version '9'"),
        ("set_alias", ("m", "2", "1"), InvalidInput, "alias: got '2'; allowed: a name that is not a version of m"),
        ("set_alias", ("m", "a b", "1"), InvalidInput, "alias: got 'a b'"),
        ("set_alias", ("m", "a", "1", 1.5), InvalidInput, "share: got 1.5"),
        ("set_alias", ("m", "a", "1", float("nan")), InvalidInput, "share: got nan"),
        ("set_alias", ("m", "a", "1", 0.6), InvalidInput, "share: got 1.1"),
        ("delete_alias", ("m", "a"), NotFound, "no alias 'a' of m; there are: half"),
        ("delete_alias", ("other", "a"), NotFound, "no alias 'a' of other; there are: none"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_and_changes_nothing(
    stage: Stage, change: str, arguments: tuple[Any, ...], kind: type[DragomanError], message: str
) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("other", "1")
        stage.store.aliases("m", half=("3", 0.5))
        await rollout.refresh()
        before, text = dict(stage.registry.entries), written(stage)
        stage.new_log()
        await refused(getattr(rollout, change)(*arguments), kind, message)
        assert (stage.registry.entries, written(stage), stage.log) == (before, text, [])

    stage.play(act)


def test_what_vanished_is_not_listed_among_what_there_is(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("other", "1")
        await rollout.refresh()
        stage.store.remove("m")
        await refused(rollout.load("m"), NotFound, "no model 'm' in the repository; there are: other$")

    stage.play(act)


def test_while_a_file_beside_the_bundles_is_bad_no_change_is_made(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        stage.store.write("m/aliases.json", "{")
        for change in (rollout.load("m", "1"), rollout.unload("m"), rollout.set_alias("m", "a", "1")):
            await refused(change, Conflict, r"m/aliases\.json cannot be read")
        assert stage.serving() == ["3"]
        assert stage.store.read("m/aliases.json") == b"{"

    stage.play(act)


def test_while_the_repository_cannot_be_read_no_change_is_made(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        await rollout.refresh()
        Path(stage.store.root).rename(Path(stage.store.root).with_name("away"))
        await refused(rollout.unload("m"), RepositoryError, "FileNotFoundError")
        assert stage.serving() == ["3"]

    stage.play(act)


# --- one at a time


def test_changes_at_once_are_made_one_after_the_other(stage: Stage) -> None:
    busy: list[str] = []

    def load_slowly() -> None:
        assert busy == []
        busy.append("loading")
        time.sleep(0.01)
        busy.pop()

    async def act(rollout: Rollout) -> None:
        stage.while_loading = load_slowly
        await asyncio.gather(
            rollout.refresh(),
            rollout.load("m", "1"),
            rollout.set_alias("m", "stable", "2"),
            rollout.refresh(),
            rollout.unload("m", "1"),
            rollout.set_alias("m", "canary", "3"),
        )
        assert (stage.serving(), stage.in_force()) == (["2", "3"], {"stable": "2", "canary": "3"})
        loads = [line.split(",")[0] for line in stage.log if line.startswith("load")]
        assert loads == ["load 3", "load 1", "load 2", "load 3"]

    stage.play(act)
