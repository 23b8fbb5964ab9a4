from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import MANIFEST, Bundle
from dragoman_service.bundle.manifest import FILES, TOKENIZER, WEIGHTS
from dragoman_service.bundle.private_copy import PrivateCopy, sha256_of
from dragoman_service.errors import BundleError
from support.small_disk import small_disk


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def place(tiny_bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_bundle.path, tmp_path / "bundle"))


def test_a_bundle_is_read_from_its_copy_alone(place: Path, scratch: Path) -> None:
    with PrivateCopy(place) as copy:
        bundle = Bundle.load(place, copy)
        assert (bundle.path, bundle.folder) == (place, copy.folder)
        assert {file.name for file in copy.folder.iterdir()} == {*FILES, TOKENIZER, MANIFEST}
        assert sha256_of(copy.folder / WEIGHTS) == bundle.manifest.files[WEIGHTS]
        assert copy.folder.stat().st_mode & 0o077 == 0, "others can read it"
    assert not list(scratch.iterdir())
    assert copy.changes() == {}
    (place / WEIGHTS).unlink()
    os.mkfifo(place / WEIGHTS)
    (place / MANIFEST).unlink()
    assert copy.changes() == {WEIGHTS: "is not a regular file", MANIFEST: "is missing"}


@pytest.mark.usefixtures("scratch")
def test_a_file_is_read_again_only_if_it_may_have_changed(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with PrivateCopy(place) as copy:
        Bundle.load(place, copy)
    read: list[Path] = []
    monkeypatch.setattr(
        "dragoman_service.bundle.private_copy.sha256_of", lambda path: read.append(path) or sha256_of(path)
    )
    before = (place / WEIGHTS).stat()
    data = bytearray((place / WEIGHTS).read_bytes())
    assert copy.changes() == {}
    assert not read
    data[-1] ^= 1
    with (place / WEIGHTS).open("r+b") as file:
        file.write(data)
    os.utime(place / WEIGHTS, ns=(before.st_atime_ns, before.st_mtime_ns))  # as if nothing had happened
    for _ in range(2):
        assert copy.changes() == {WEIGHTS: "has other contents"}
    assert read == [place / WEIGHTS]


@pytest.mark.usefixtures("scratch")
def test_a_file_that_changes_while_it_is_copied_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copyfile = shutil.copyfile

    def disturbed(source: Path, target: Path) -> None:
        copyfile(source, target)
        if source.name == WEIGHTS:
            target.write_bytes(target.read_bytes()[:-1])

    monkeypatch.setattr(shutil, "copyfile", disturbed)
    with PrivateCopy(place) as copy, pytest.raises(BundleError, match=r"weights\.safetensors: SHA-256 is"):
        Bundle.load(place, copy)


def test_no_room_for_the_copy_is_said(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_disk(tmp_path / "small", megabytes=1) as small:
        monkeypatch.setattr(tempfile, "tempdir", str(small))
        (small / "filler").write_bytes(bytes(2**20 - 200_000))
        with PrivateCopy(place) as copy, pytest.raises(BundleError, match=f"no private copy in {small}; set TMPDIR"):
            Bundle.load(place, copy)
        assert [file.name for file in small.iterdir()] == ["filler"]


def test_no_folder_for_the_copy_is_said(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    with pytest.raises(BundleError, match=r"no folder for a private copy; set TMPDIR to one: .*/nowhere"):
        PrivateCopy(place)


def test_what_killed_processes_left_behind_is_removed(place: Path, scratch: Path) -> None:
    command = "import os, signal, sys; from pathlib import Path; from dragoman_service.bundle.private_copy import *; "
    command += (
        "copy = PrivateCopy(Path(sys.argv[1])); copy.add('weights.safetensors'); print(copy.folder, flush=True); "
    )
    lost = subprocess.run(
        [sys.executable, "-c", command + "os.kill(os.getpid(), signal.SIGKILL)", str(place)],
        env={**os.environ, "TMPDIR": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    ).stdout.strip()
    assert (Path(lost) / WEIGHTS).exists()
    foreign = scratch / "other"
    foreign.mkdir()
    with PrivateCopy(place) as used:
        with PrivateCopy(place):
            assert Path(lost).exists(), "it is too young to be removed"
        for folder in (Path(lost), used.folder, foreign):
            os.utime(folder, (time.time() - 3600,) * 2)
        with PrivateCopy(place):
            assert not Path(lost).exists()
            assert used.folder.exists(), "a running process uses it"
            assert foreign.exists()
