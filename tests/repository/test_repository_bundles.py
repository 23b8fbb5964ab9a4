"""Bundles on their way out of a repository."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dragoman_service.errors import RepositoryError
from dragoman_service.repository.repository import Repository
from support.stores import Store, bundle_files, empty_memory, failing_at, files_under, noted


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    empty_memory()


@pytest.fixture
def remote() -> Store:
    return Store("memory://models")


@pytest.fixture
def repository(remote: Store, tmp_path: Path) -> Repository:
    return Repository(remote.url, tmp_path / "cache")


def fetch(repository: Repository, name: str = "m", version: str = "1") -> Path:
    return repository.fetch(name, version, repository.scan()[name].versions[version])


@pytest.mark.parametrize("kind", ["path", "file"])
def test_a_bundle_on_this_machine_is_used_where_it_is(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "models"
    store = Store(str(folder) if kind == "path" else f"file://{folder}")
    store.add("m", "1")
    repository = Repository(store.url, tmp_path / "cache")
    assert fetch(repository) == folder / "m" / "1"
    repository.discard(folder / "m" / "1")
    assert (folder / "m" / "1" / "manifest.json").exists()
    assert not (tmp_path / "cache").exists()


def test_a_bundle_from_afar_comes_into_the_cache_whole(remote: Store, repository: Repository, tmp_path: Path) -> None:
    remote.add("m", "1", "extra/table.bin")
    remote.write("m/1/not-of-the-bundle")
    path = fetch(repository)
    assert path.is_relative_to(tmp_path / "cache")
    assert {name: (path / name).read_bytes() for name in files_under(path)} == bundle_files("1", "extra/table.bin")


def test_a_second_fetch_reads_nothing(remote: Store, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    remote.add("m", "1")
    mark = repository.scan()["m"].versions["1"]
    path = repository.fetch("m", "1", mark)
    for method in ("cat_file", "get_file", "open", "info", "ls"):
        noted(monkeypatch, MemoryFileSystem, method, lambda *it: pytest.fail(f"read {it}"))
    assert repository.fetch("m", "1", mark) == path


def test_a_bundle_that_has_changed_is_fetched_beside_the_one_in_use(remote: Store, repository: Repository) -> None:
    remote.add("m", "1")
    first = fetch(repository)
    remote.add("m", "1", "more.bin")
    found = repository.scan()["m"].versions["1"]
    second = repository.fetch("m", "1", found)
    assert second != first
    assert (second / "more.bin").exists()


@pytest.mark.parametrize("count", range(1, 8))
def test_a_fetch_that_breaks_off_leaves_nothing_and_can_be_made_again(
    remote: Store, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    remote.add("m", "1", "extra/table.bin")
    mark = repository.scan()["m"].versions["1"]
    with monkeypatch.context() as patch:
        noted(patch, MemoryFileSystem, "get_file", failing_at(count, ConnectionError("cable pulled")))
        with pytest.raises(RepositoryError, match="memory://models/m/1 cannot be fetched: ConnectionError: cable"):
            repository.fetch("m", "1", mark)
    assert files_under(tmp_path / "cache") == set()
    assert list((tmp_path / "cache").glob("*/*/*")) == []
    assert files_under(repository.fetch("m", "1", mark)) == bundle_files("1", "extra/table.bin").keys()


def test_a_file_that_the_manifest_names_and_that_is_missing_is_an_error(
    remote: Store, repository: Repository, tmp_path: Path
) -> None:
    remote.add("m", "1")
    remote.remove("m/1/golden.json")
    with pytest.raises(RepositoryError, match=r"cannot be fetched: .*golden\.json"):
        fetch(repository)
    assert files_under(tmp_path / "cache") == set()


@pytest.mark.parametrize("path", ["../escaped", "/etc/escaped", "a/../../escaped"])
def test_a_manifest_cannot_have_files_written_elsewhere(
    remote: Store, repository: Repository, tmp_path: Path, path: str
) -> None:
    manifest = bundle_files("1", path)["manifest.json"]
    remote.add("m", "1")
    remote.write("m/1/manifest.json", manifest)
    with pytest.raises(RepositoryError, match="allowed: relative paths inside the bundle"):
        fetch(repository)
    assert files_under(tmp_path) == set()


@pytest.mark.parametrize("manifest", ["{", "{}", b"\xff"])
def test_a_manifest_that_is_none_is_an_error(remote: Store, repository: Repository, manifest: str | bytes) -> None:
    remote.write("m/1/manifest.json", manifest)
    with pytest.raises(RepositoryError, match="m/1 cannot be fetched"):
        fetch(repository)


def test_a_bad_bundle_is_fetched_anew(remote: Store, repository: Repository) -> None:
    remote.add("m", "1")
    path = fetch(repository)
    (path / "golden.json").write_bytes(b"damaged on the way")
    repository.discard(path)
    assert (fetch(repository) / "golden.json").read_bytes() == bundle_files()["golden.json"]


def test_a_cache_that_two_servers_share_is_filled_by_the_faster(
    remote: Store, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.add("m", "1")
    rename = os.rename

    def slower(source: Path, target: Path) -> None:
        shutil.copytree(source, target)
        (target / "by-the-other").touch()
        rename(source, target)

    monkeypatch.setattr(os, "rename", slower)
    path = fetch(repository)
    assert (path / "by-the-other").exists()
    assert [it.name for it in path.parent.iterdir()] == [path.name]


def test_a_full_disk_is_an_error_and_leaves_nothing(
    remote: Store, repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.add("m", "1")
    noted(monkeypatch, MemoryFileSystem, "get_file", failing_at(3, OSError(28, "No space left on device")))
    with pytest.raises(RepositoryError, match="No space left on device"):
        fetch(repository)
    assert files_under(tmp_path / "cache") == set()


def test_the_cache_forgets_what_the_repository_has_lost(remote: Store, repository: Repository, tmp_path: Path) -> None:
    for version in ("1", "2"):
        remote.add("m", version)
    remote.add("other", "1")
    first, second, other = fetch(repository), fetch(repository, version="2"), fetch(repository, "other")
    remote.remove("m/1")
    remote.remove("other")
    repository.scan()
    assert [path.exists() for path in (first, second, other)] == [False, True, False]
    remote.add("m", "2", "more.bin")
    repository.scan()
    assert not second.exists()


def test_what_another_server_is_fetching_is_left_alone(remote: Store, repository: Repository) -> None:
    remote.add("m", "1")
    under_way = fetch(repository).parent / ".under-way"
    under_way.mkdir()
    repository.scan()
    assert under_way.exists()


def test_every_look_is_at_the_place_itself_and_not_at_what_was_there_before(
    remote: Store, repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    noted(monkeypatch, MemoryFileSystem, "invalidate_cache", lambda *_: looks.append("forget"))
    noted(monkeypatch, MemoryFileSystem, "ls", lambda *_: looks.append("look"))
    repository.scan()
    repository.scan()
    assert looks == ["forget", "look"] * 2


def test_the_cache_of_another_repository_is_left_alone(remote: Store, repository: Repository, tmp_path: Path) -> None:
    remote.add("m", "1")
    path = fetch(repository)
    Store("memory://others")
    Repository("memory://others", tmp_path / "cache").scan()
    assert path.exists()
