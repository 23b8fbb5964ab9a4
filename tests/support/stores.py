"""Model repositories on a disk or another file system, and bundles with valid checksums but without a model."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from dragoman_service.bundle.manifest import FILES, TOKENIZER
from support.manifests import manifest_of

MANIFEST = manifest_of()


def bundle_files(version: str = "1", *more: str) -> dict[str, bytes]:
    """The files of a bundle by name, with the manifest. `more` are additional files."""
    contents = {name: f"{name} of {version}".encode() for name in (*FILES, TOKENIZER, *more)}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    manifest = dataclasses.replace(MANIFEST, version=version, files=digests)
    return {**contents, "manifest.json": manifest.to_json().encode()}


def write_bundle_files(folder: Path, version: str = "1", *more: str) -> Path:
    """Write the files of a bundle to a local folder."""
    for name, data in bundle_files(version, *more).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


class Store:
    """The files of a repository."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.files, self.root = fsspec.core.url_to_fs(url)
        self.files.makedirs(self.root, exist_ok=True)

    def write(self, path: str, data: bytes | str = b"") -> None:
        """Write a file, and the folders above it."""
        target = f"{self.root}/{path}"
        self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(target, data if isinstance(data, bytes) else data.encode())

    def read(self, path: str) -> bytes:
        """Read a file."""
        return bytes(self.files.cat_file(f"{self.root}/{path}"))

    def add(self, name: str, version: str, *more: str) -> None:
        """Write a bundle, the manifest last."""
        for file, data in bundle_files(version, *more).items():
            self.write(f"{name}/{version}/{file}", data)

    def add_manifest(self, name: str, *versions: str, text: str = "{}") -> None:
        """Write manifests only, which suffice to list versions."""
        for version in versions:
            self.write(f"{name}/{version}/manifest.json", text)

    def aliases(self, name: str, **aliases: Any) -> None:
        """Write the aliases of a model: each a version, or a pair of version and share."""
        pairs = {alias: each if isinstance(each, tuple) else (each, 0.0) for alias, each in aliases.items()}
        value = {alias: {"version": version, "share": share} for alias, (version, share) in pairs.items()}
        self.write(f"{name}/aliases.json", json.dumps(value))

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with its contents."""
        self.files.rm(f"{self.root}/{path}", recursive=True)

    def names(self) -> set[str]:
        """The paths of all files."""
        return {str(path).removeprefix(f"{self.root}/") for path in self.files.find(self.root)}


def empty_memory() -> None:
    """Remove all files at memory://, which otherwise last as long as the process."""
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]


def files_under(folder: Path) -> set[str]:
    """The paths of all files in a local folder."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def noted(monkeypatch: pytest.MonkeyPatch, kind: type, method: str, note: Callable[..., object]) -> None:
    """Call `note` before each call of a method; an exception of `note` replaces the call."""
    original = getattr(kind, method)

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        note(*arguments)
        return original(self, *arguments, **options)

    monkeypatch.setattr(kind, method, call)


def failing_at(count: int, error: BaseException) -> Callable[..., None]:
    """Return a function that raises in its `count`-th call."""
    calls: list[object] = []

    def note(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == count:
            raise error

    return note
