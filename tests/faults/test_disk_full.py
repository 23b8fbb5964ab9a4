"""The disk is full: nothing that is there is harmed, and what was asked for says why it was not done."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from dragoman_service.client.admin import AdminClient
from dragoman_service.client.errors import NotPossibleNow
from support.repositories import add_version
from support.server_process import run_dragoman, server_process
from support.small_disk import fill, small_disk
from support.traffic import traffic, translations


def test_aliases_and_bundles_that_cannot_be_written_change_nothing(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with small_disk(tmp_path / "models", megabytes=8) as repository:
        for version in ("1", "2"):
            add_version(repository, tiny_bundle.path, "tiny", version)
        admin = f"unix:{tmp_path}/admin.sock"
        options = ("--repository", str(repository), "--admin", admin, "--watch", "0.1")
        with server_process([], *options) as server, AdminClient(admin) as client:
            client.set_alias("tiny", "stable", "1")
            written = (repository / "tiny" / "aliases.json").read_text()
            expected = translations(server.address, 10)
            fill(repository / "filler")
            with traffic(server.address, expected, clients=2) as seen:
                with pytest.raises(NotPossibleNow, match=r"aliases\.json cannot be written: .*No space left on device"):
                    client.set_alias("tiny", "stable", "2")
                third = add_version(tmp_path, tiny_bundle.path, "tiny", "3")
                done = run_dragoman("models", "publish", third, str(repository))
                assert (done.returncode, "No space left on device" in done.stderr) == (1, True)
                seen.wait_for(5)
            assert not seen.problems
            assert (repository / "tiny" / "aliases.json").read_text() == written
            assert sorted(path.name for path in (repository / "tiny").iterdir()) == ["1", "2", "aliases.json"]
            states = {version.version: version.state for version in client.versions()}
            assert states == {"1": "serving", "2": "available"}
            (repository / "filler").unlink()
            client.set_alias("tiny", "stable", "2")
            assert run_dragoman("models", "publish", third, str(repository)).returncode == 0
