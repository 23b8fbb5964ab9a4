"""What is wrong with a repository, or with a bundle in it, leaves what serves."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from dragoman_service.repository.rollout import Rollout
from support.fake_workers import FakeWorkers, served
from support.stage import Stage, until


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def test_a_version_that_cannot_be_loaded_leaves_the_old_one_and_is_tried_again_once_it_changes(stage: Stage) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        await rollout.refresh()
        stage.store.add_manifest("m", "2")
        stage.bad = {"m@2"}
        for _ in range(3):
            await rollout.refresh()
        assert stage.new_log() == ["load 1, serving none", "load 2, serving 1"]
        assert (stage.serving(), stage.default()) == (["1"], "1")
        assert "it is bad" in rollout.status()[1].reason
        stage.bad = set()
        await rollout.refresh()
        assert stage.log == []
        stage.store.add_manifest("m", "2", text="{ }")
        await rollout.refresh()
        assert stage.serving() == ["2"]

    stage.play(act)


def test_a_repository_that_cannot_be_read_is_counted_and_leaves_everything(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1")
        await rollout.refresh()
        folder = Path(stage.store.root)
        folder.rename(folder.with_name("away"))
        for _ in range(3):
            await rollout.refresh()
        assert stage.metric("dragoman_repository_errors_total") == 3
        assert stage.serving() == ["1"]
        assert not stage.engine("m@1").closed
        assert caplog.text.count("FileNotFoundError") == 1  # said once, until it is another problem
        folder.with_name("away").rename(folder)
        stage.store.add_manifest("m", "2")
        await rollout.refresh()
        assert stage.serving() == ["2"]
        assert stage.metric("dragoman_repository_errors_total") == 3
        folder.rename(folder.with_name("away"))
        await rollout.refresh()
        assert caplog.text.count("FileNotFoundError") == 2

    caplog.set_level(logging.ERROR)
    stage.play(act)


def test_a_bad_file_beside_the_bundles_leaves_the_aliases_as_they_were(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "1", "2")
        stage.store.aliases("m", stable="1")
        await rollout.refresh()
        stage.store.write("m/aliases.json", "{")
        stage.store.add_manifest("m", "3")
        for _ in range(3):
            await rollout.refresh()
        assert (stage.serving(), stage.in_force()) == (["1"], {"stable": "1"})
        assert caplog.text.count("m/aliases.json cannot be read") == 1
        stage.store.aliases("m", stable="3")
        await rollout.refresh()
        assert (stage.serving(), stage.in_force()) == (["3"], {"stable": "3"})

    caplog.set_level(logging.ERROR)
    stage.play(act)


def test_a_name_given_on_the_command_line_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fixed = served(FakeWorkers(), name="m", version="7")
    stage = Stage(tmp_path, [fixed])

    async def act(rollout: Rollout) -> None:
        stage.store.add_manifest("m", "8")
        stage.store.add_manifest("other", "1")
        for _ in range(2):
            await rollout.refresh()
        assert stage.registry.models[0] is fixed
        assert stage.serving() == ["7"]
        assert stage.serving("other") == ["1"]
        assert [it.name for it in rollout.status()] == ["other"]
        assert caplog.text.count("m of the repository is not served") == 1

    stage.play(act)


def test_what_nobody_expected_of_one_bundle_keeps_no_other_out(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    surprises = [RuntimeError("surprise")]

    def surprise() -> None:
        if surprises:
            raise surprises.pop()

    async def act(rollout: Rollout) -> None:
        stage.while_loading = surprise
        stage.store.add_manifest("m", "1")
        stage.store.add_manifest("other", "1")
        await rollout.refresh()
        assert (stage.serving(), stage.serving("other")) in (([], ["1"]), (["1"], []))
        assert "RuntimeError('surprise')" in [it.reason for it in rollout.status()]
        assert "Traceback" in caplog.text

    stage.play(act)


def test_watching_goes_on_after_a_look_that_failed_as_nobody_expected(
    stage: Stage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, surprises = Rollout._scan, [RuntimeError("surprise")]

    async def surprise(rollout: Rollout) -> None:
        if surprises:
            raise surprises.pop()
        await scan(rollout)

    async def act(rollout: Rollout) -> None:
        monkeypatch.setattr(Rollout, "_scan", surprise)
        watching = asyncio.create_task(rollout.watch(0.001))
        stage.store.add_manifest("m", "1")
        await until(lambda: stage.serving() == ["1"])
        assert "following the repository failed" in caplog.text
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    stage.play(act)
