"""Bundles on their way into a repository: whole or not at all, and never over another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from dragoman_service.errors import InvalidInput, RepositoryError
from dragoman_service.repository.repository import Repository
from support.stores import Store, bundle_files, empty_memory, failing_at, files_under, noted, write_bundle_files


@pytest.fixture(autouse=True)
def _empty_memory() -> Iterator[None]:
    yield
    empty_memory()


@pytest.fixture(params=["path", "file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    folder = tmp_path / "models"
    urls = {"path": str(folder), "file": f"file://{folder}", "memory": "memory://models"}
    return Store(urls[request.param])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """The folder of a whole bundle, one of whose files is in a folder of its own."""
    return write_bundle_files(tmp_path / "made" / "m" / "1", "1", "extra/table.bin")


def test_a_bundle_published_is_found_whole(store: Store, tmp_path: Path, bundle: Path) -> None:
    repository = Repository(store.url, tmp_path / "cache")
    place = repository.publish(bundle, "m", "1")
    assert place.endswith("models/m/1")
    (bundle / "not-of-the-bundle").touch()
    repository.publish(bundle, "m", "2")
    files = bundle_files("1", "extra/table.bin")
    assert store.names() == {f"m/{version}/{name}" for version in ("1", "2") for name in files}
    assert {name: store.read(f"m/1/{name}") for name in files} == files
    path = repository.fetch("m", "1", repository.scan()["m"].versions["1"])
    assert files_under(path) == files.keys()


def test_a_bundle_is_never_published_over_another(store: Store, tmp_path: Path, bundle: Path) -> None:
    store.write("m/1/anything", b"mine")
    with pytest.raises(InvalidInput, match=r"version: got '1'; allowed: one that .*/m does not have"):
        Repository(store.url, tmp_path).publish(bundle, "m", "1")
    assert store.names() == {"m/1/anything"}


def test_the_manifest_comes_last(tmp_path: Path) -> None:
    repository = Repository(Store("memory://models").url, tmp_path)
    bundle = write_bundle_files(tmp_path / "made", "1", "zzz.bin", "aaa.bin")
    order: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        noted(patch, MemoryFileSystem, "put_file", lambda source, target: order.append(target))
        repository.publish(bundle, "m", "1")
    assert len(order) == len(bundle_files()) + 2
    assert [it for it in order if it.endswith("manifest.json")] == order[-1:]


def test_on_this_machine_all_of_it_appears_at_once(tmp_path: Path, bundle: Path) -> None:
    store = Store(str(tmp_path / "models"))
    repository = Repository(store.url, tmp_path)
    seen: list[tuple[bool, list[str]]] = []

    def look(*arguments: object) -> None:
        seen.append(((tmp_path / "models" / "m" / "1").exists(), list(repository.scan())))

    with pytest.MonkeyPatch.context() as patch:
        noted(patch, LocalFileSystem, "put_file", look)
        repository.publish(bundle, "m", "1")
    assert len(seen) == len(bundle_files("1", "extra/table.bin"))
    assert all(it == (False, []) for it in seen)
    assert list(repository.scan()) == ["m"]


@pytest.mark.parametrize("count", range(1, 9))
def test_a_bundle_is_published_whole_or_not_at_all(store: Store, tmp_path: Path, bundle: Path, count: int) -> None:
    store.add_manifest("m", "0")
    repository = Repository(store.url, tmp_path)
    error = OSError(28, "No space left on device")
    with pytest.MonkeyPatch.context() as patch:
        noted(patch, type(store.files), "put_file", failing_at(count, error))
        with pytest.raises(RepositoryError, match=r"m/1 cannot be written: OSError: .*No space left on device"):
            repository.publish(bundle, "m", "1")
    assert store.names() == {"m/0/manifest.json"}
    repository.publish(bundle, "m", "1")
    assert list(repository.scan()["m"].versions) == ["0", "1"]


def test_whoever_interrupts_a_publication_leaves_nothing(store: Store, tmp_path: Path, bundle: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        noted(patch, type(store.files), "put_file", failing_at(4, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            Repository(store.url, tmp_path).publish(bundle, "m", "1")
    assert store.names() == set()


def test_what_is_wrong_is_said_even_if_there_is_nothing_to_clear_away(store: Store, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "manifest.json").write_text("{}")
    with pytest.raises(RepositoryError, match="format_version: got None"):
        Repository(store.url, tmp_path).publish(tmp_path / "made", "m", "1")
    assert store.names() == set()


@pytest.mark.parametrize(
    ("versions", "following"),
    [((), "1"), (("1", "2"), "3"), (("9", "10"), "11"), (("v7", "1.5"), "1"), (("3", "v9"), "4"), (("007",), "8")],
)
def test_the_next_version_is_one_more_than_the_highest_number(
    store: Store, tmp_path: Path, versions: tuple[str, ...], following: str
) -> None:
    store.add_manifest("m", *versions)
    store.add_manifest("other", "50")
    assert Repository(store.url, tmp_path).next_version("m") == following
