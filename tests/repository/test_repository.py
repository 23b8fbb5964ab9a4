"""A model repository in a folder, by path and by address, and in memory, which stands for wherever else one can be."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dragoman_service.errors import InvalidInput, RepositoryError
from dragoman_service.repository.registry import Alias
from dragoman_service.repository.repository import Listed, Repository, check_aliases, read_aliases
from support.stores import Store, empty_memory


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
def repository(store: Store, tmp_path: Path) -> Repository:
    return Repository(store.url, tmp_path / "cache")


def versions(found: dict[str, Listed]) -> dict[str, list[str]]:
    return {name: list(listed.versions) for name, listed in found.items()}


def mark(repository: Repository, name: str = "m", version: str = "1") -> str:
    return repository.scan()[name].versions[version]


# --- what is there


def test_an_empty_repository_has_nothing(repository: Repository) -> None:
    assert repository.scan() == {}
    assert repository.next_version("m") == "1"


def test_models_and_versions_are_listed_in_their_order(store: Store, repository: Repository) -> None:
    store.add_manifest("b", "10", "9", "1.10", "1.9")
    store.add_manifest("a", "v2")
    assert versions(repository.scan()) == {"a": ["v2"], "b": ["1.9", "1.10", "9", "10"]}


def test_what_is_no_bundle_is_not_looked_at(store: Store, repository: Repository) -> None:
    store.add_manifest("m", "1", ".2.partial", "has space")
    store.add_manifest(".hidden", "1")
    store.add_manifest("-odd", "1")
    store.write("m/2/weights.safetensors")
    store.write("m/3", b"a file")
    store.write("m/notes.txt")
    store.write("README.md")
    store.write("only-notes/notes.txt")
    store.write("m/1/deeper/4/manifest.json")
    assert versions(repository.scan()) == {"m": ["1"]}


def test_a_bundle_is_there_as_soon_as_its_manifest_is_and_gone_with_it(store: Store, repository: Repository) -> None:
    store.write("m/1/weights.safetensors")
    assert repository.scan() == {}
    store.add_manifest("m", "1")
    assert versions(repository.scan()) == {"m": ["1"]}
    store.remove("m/1/manifest.json")
    assert repository.scan() == {}


def test_links_to_folders_are_followed_and_others_are_not_looked_at(tmp_path: Path) -> None:
    elsewhere = Store(str(tmp_path / "elsewhere"))
    elsewhere.add_manifest("m", "7")
    root = tmp_path / "models"
    (root / "own").mkdir(parents=True)
    (root / "linked").symlink_to(tmp_path / "elsewhere" / "m")
    (root / "own" / "8").symlink_to(tmp_path / "elsewhere" / "m" / "7")
    (root / "README").symlink_to(tmp_path / "elsewhere" / "m" / "7" / "manifest.json")
    (root / "dangling").symlink_to(tmp_path / "nowhere")
    (root / "own" / "9").symlink_to(tmp_path / "nowhere")
    assert versions(Repository(str(root), tmp_path).scan()) == {"linked": ["7"], "own": ["8"]}


def test_a_repository_that_is_not_there_is_an_error_that_names_it(tmp_path: Path) -> None:
    for url in (str(tmp_path / "nowhere"), "memory://nowhere"):
        with pytest.raises(RepositoryError, match="nowhere: FileNotFoundError"):
            Repository(url, tmp_path).scan()


@pytest.mark.parametrize("url", ["nosuch://bucket/models", "s3x://"])
def test_an_address_that_nobody_knows_is_an_error_that_names_it(tmp_path: Path, url: str) -> None:
    with pytest.raises(RepositoryError, match=f"repository {url}: "):
        Repository(url, tmp_path)


def test_a_library_that_is_missing_is_an_error_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(url: str) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", missing)
    with pytest.raises(RepositoryError, match="s3://bucket/models: Install s3fs"):
        Repository("s3://bucket/models", tmp_path)


# --- fingerprints


def test_a_fingerprint_stays_while_nothing_changes(store: Store, repository: Repository, tmp_path: Path) -> None:
    store.add_manifest("m", "1")
    first = mark(repository)
    store.add_manifest("m", "2")
    store.aliases("m", stable="1")
    store.write("m/1/weights.safetensors")
    assert mark(repository) == first
    assert mark(Repository(store.url, tmp_path / "other")) == first
    assert mark(repository, version="2") != first


def test_a_fingerprint_changes_with_the_manifest(store: Store, repository: Repository) -> None:
    store.add_manifest("m", "1", text="{}")
    first = mark(repository)
    store.add_manifest("m", "1", text="{ }")
    assert mark(repository) != first


def test_a_fingerprint_changes_with_the_settings(store: Store, repository: Repository) -> None:
    store.add_manifest("m", "1")
    marks = [mark(repository)]
    for settings in ("", "max_rows = 16", "max_rows = 8"):
        store.write("m/serving.toml", settings)
        marks.append(mark(repository))
    assert len(set(marks)) == 4
    store.remove("m/serving.toml")
    assert mark(repository) == marks[0]


# --- aliases and settings


def test_aliases_and_settings_are_read(store: Store, repository: Repository) -> None:
    store.add_manifest("m", "1", "2")
    store.aliases("m", stable="1", canary=("2", 0.25))
    store.write("m/serving.toml", "max_rows = 16\nlanes = 2\n")
    listed = repository.scan()["m"]
    assert listed.aliases == {"stable": Alias("1"), "canary": Alias("2", 0.25)}
    assert listed.settings == {"max_rows": 16, "lanes": 2}
    assert listed.problem == ""


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("aliases.json", "{", "Expecting property name"),
        ("aliases.json", "[]", r"got \[\]; allowed: an object"),
        ("aliases.json", '{"stable": "1"}', "stable: got '1'; allowed: an object"),
        ("aliases.json", '{"stable": {"share": 0.0}}', r"stable\.version: missing"),
        ("aliases.json", '{"stable": {"version": 1, "share": 0.0}}', r"stable\.version: got 1; allowed: str"),
        ("aliases.json", '{"stable": {"version": "1", "share": 0.0, "x": 1}}', "unknown field"),
        ("aliases.json", '{"a b": {"version": "1", "share": 0.0}}', "alias: got 'a b'"),
        ("aliases.json", '{"a": {"version": "1", "share": 1.5}}', "share: got 1.5"),
        ("aliases.json", '{"a": {"version": "1", "share": NaN}}', "share: got nan"),
        ("aliases.json", b"\xff\xfe\xff", "can't decode"),
        ("serving.toml", "max_rows = ", "Invalid value"),
        ("serving.toml", b"\xff", "can't decode"),
    ],
)
def test_a_bad_file_beside_the_bundles_is_a_problem_that_names_it_and_leaves_them(
    store: Store, repository: Repository, file: str, text: str | bytes, said: str
) -> None:
    store.add_manifest("m", "1", "2")
    store.add_manifest("other", "1")
    store.write(f"m/{file}", text)
    found = repository.scan()
    assert versions(found) == {"m": ["1", "2"], "other": ["1"]}
    assert (found["m"].aliases, found["m"].settings) == ({}, {})
    assert re.search(f"^m/{file} cannot be read: .*{said}", found["m"].problem)
    assert found["other"].problem == ""


def test_a_model_without_bundles_is_listed_if_something_is_wrong(store: Store, repository: Repository) -> None:
    store.write("m/aliases.json", "{")
    found = repository.scan()
    assert versions(found) == {"m": []}
    assert "aliases.json" in found["m"].problem


@pytest.mark.parametrize(
    ("aliases", "message"),
    [
        ({"a": Alias("1", 0.6), "b": Alias("1", 0.5)}, "share: got 1.1; allowed: at most 1, all aliases"),
        ({"a": Alias("1", -0.1)}, "share: got -0.1; allowed: 0 to 1"),
        ({"": Alias("1")}, "alias: got ''"),
        ({"a/b": Alias("1")}, "alias: got 'a/b'"),
        ({".a": Alias("1")}, "alias: got '.a'"),
    ],
)
def test_aliases_that_cannot_be(aliases: dict[str, Alias], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        check_aliases(aliases)


SHARES = (0.33, 0.56, 0.11)


def test_shares_may_add_up_to_one_though_binary_fractions_do_not() -> None:
    assert sum(SHARES) > 1
    check_aliases({str(n): Alias("1", share) for n, share in enumerate(SHARES)})
    check_aliases({"a": Alias("1", 1.0)})


def test_no_aliases_are_none() -> None:
    assert read_aliases(None) == read_aliases(b"{}") == {}


def test_aliases_written_are_read_back(store: Store, repository: Repository) -> None:
    store.add_manifest("m", "1", "2")
    aliases = {"stable": Alias("1"), "canary": Alias("2", 0.125)}
    repository.write_aliases("m", aliases)
    assert repository.scan()["m"].aliases == aliases
    repository.write_aliases("m", {})
    assert repository.scan()["m"].aliases == {}
    assert store.names() == {"m/1/manifest.json", "m/2/manifest.json", "m/aliases.json"}


class FullDisk:
    """Files opened for writing take half of what is written, and then there is no space left."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def __enter__(self) -> FullDisk:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        raise OSError(28, "No space left on device")


def test_on_a_full_disk_the_aliases_stay_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "models"))
    store.add_manifest("m", "1")
    repository = Repository(store.url, tmp_path)
    repository.write_aliases("m", {"stable": Alias("1")})
    before, names = store.read("m/aliases.json"), store.names()
    monkeypatch.setattr(
        "dragoman_service.repository.repository.open", lambda *args: FullDisk(open(*args)), raising=False  # noqa: SIM115
    )  # fmt: skip
    with pytest.raises(RepositoryError, match=r"m/aliases\.json cannot be written: .*No space left"):
        repository.write_aliases("m", {"stable": Alias("2")})
    assert (store.read("m/aliases.json"), store.names()) == (before, names)


def test_aliases_are_replaced_in_one_move(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(str(tmp_path / "models"))
    store.add_manifest("m", "1")
    repository = Repository(store.url, tmp_path)
    repository.write_aliases("m", {"stable": Alias("1")})
    seen: list[bytes] = []
    replace = os.replace

    def noted(source: str, target: str) -> None:
        seen.append(store.read("m/aliases.json"))
        replace(source, target)
        seen.append(store.read("m/aliases.json"))

    monkeypatch.setattr(os, "replace", noted)
    repository.write_aliases("m", {"stable": Alias("2")})
    assert [read_aliases(text)["stable"].version for text in seen] == ["1", "2"]
