"""A model repository: folders NAME/VERSION with a bundle in each, on a disk or any file system that fsspec reads.

    NAME/VERSION/manifest.json ...   a bundle, which exists as soon as its manifest does
    NAME/aliases.json                names for versions: {"stable": {"version": "3", "share": 0.0}}
    NAME/unloaded.json               versions that operators took out of service: {"model": false, "versions": ["3"]}
    NAME/serving.toml                optional: settings of the server for this model alone, such as `max_rows = 16`

Other files, and names that begin with a dot, are ignored.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import tomllib
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from dragoman_service.bundle.bundle import MANIFEST
from dragoman_service.bundle.manifest import NAME
from dragoman_service.bundle.manifest_reader import read_manifest
from dragoman_service.bundle.typed_json import from_json
from dragoman_service.errors import InvalidInput, RepositoryError
from dragoman_service.repository.registry import Alias, version_order

ALIASES = "aliases.json"
SETTINGS = "serving.toml"
UNLOADED = "unloaded.json"


@dataclass(frozen=True, slots=True)
class Unloaded:
    """The versions of a model that operators took out of service, until they are loaded by name."""

    model: bool = False
    """Whether the whole model is out of service, future versions included."""
    versions: tuple[str, ...] = ()
    """Single versions, in any order."""

    def __contains__(self, version: str) -> bool:
        return self.model or version in self.versions

    def with_version(self, version: str) -> Unloaded:
        """A copy with one more version."""
        return replace(self, versions=tuple(sorted({*self.versions, version})))

    def without_version(self, version: str) -> Unloaded:
        """A copy without one version, and with `model` False: to load a version puts the model back into service."""
        return Unloaded(versions=tuple(other for other in self.versions if other != version))


@dataclass(frozen=True, slots=True)
class Listed:
    """The contents of a repository for one model."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """Version -> fingerprint, which changes with the bundle and its settings; the oldest version first."""
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    unloaded: Unloaded = Unloaded()
    problem: str = ""
    """Problems of the files beside the bundles; empty if there are none. With a problem, aliases and settings may be
    incomplete. If `unloaded.json` cannot be read, `unloaded` is the whole model."""


class Repository:
    """Reads and writes a repository. Methods block. Any thread may call them, but only one at a time."""

    def __init__(self, url: str, cache: Path) -> None:
        """Open a repository.

        Args:
            url: A path, or a URL that fsspec knows, such as s3://bucket/models.
            cache: Folder for the bundles of a remote repository.

        Raises:
            RepositoryError: a library is missing, or the URL is not valid.
        """
        self.url = url
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise RepositoryError(f"repository {url}: {error}") from error
        self.is_local = isinstance(self._files, LocalFileSystem)
        """Whether bundles are read where they are, without a copy in the cache."""
        self._cache = cache / hashlib.sha256(url.encode()).hexdigest()[:16]

    def scan(self) -> dict[str, Listed]:
        """Read the repository. Returns model name -> its contents. Raises RepositoryError."""
        try:
            self._files.invalidate_cache()
            names = [name for name in self._folders(self._root) if NAME.fullmatch(name)]
            found = {name: self._listed(name) for name in sorted(names)}
        except Exception as error:  # the errors of fsspec's file systems have no common base class
            raise RepositoryError(f"repository {self.url}: {_error_text(error)}") from error
        self._clean_cache(found)
        return {name: listed for name, listed in found.items() if listed.versions or listed.problem}

    def fetch(self, name: str, version: str, fingerprint: str) -> Path:
        """Copy a remote bundle to the cache. Returns its local folder, unchecked. Raises RepositoryError."""
        source = f"{self._root}/{name}/{version}"
        if self.is_local:
            return Path(source)
        place = self._cache / name / f"{version}-{fingerprint}"
        if place.exists():
            return place
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=".", dir=place.parent))
        try:
            manifest = self._files.cat_file(f"{source}/{MANIFEST}")
            (partial / MANIFEST).write_bytes(manifest)
            for file in _files_of(manifest):
                (partial / file).parent.mkdir(parents=True, exist_ok=True)
                self._files.get_file(f"{source}/{file}", str(partial / file))
            try:
                os.rename(partial, place)
            except OSError:
                if not place.is_dir():  # if it is, another server that shares the cache has fetched it
                    raise
        except Exception as error:
            raise RepositoryError(f"{self.url}/{name}/{version} cannot be fetched: {_error_text(error)}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return place

    def discard(self, path: Path) -> None:
        """Remove a bad bundle from the cache, so that the next `fetch` copies it again."""
        if not self.is_local:
            shutil.rmtree(path, ignore_errors=True)

    def write_aliases(self, name: str, aliases: Mapping[str, Alias]) -> None:
        """Replace a model's aliases atomically. Raises RepositoryError."""
        self._write_json(name, ALIASES, {alias: asdict(value) for alias, value in sorted(aliases.items())})

    def write_unloaded(self, name: str, unloaded: Unloaded) -> None:
        """Replace the record of a model's unloaded versions atomically. Raises RepositoryError."""
        self._write_json(name, UNLOADED, asdict(unloaded))

    def _write_json(self, name: str, file: str, value: Any) -> None:
        try:
            self._write(f"{self._root}/{name}/{file}", (json.dumps(value, indent=2) + "\n").encode())
        except Exception as error:
            raise RepositoryError(f"{self.url}/{name}/{file} cannot be written: {_error_text(error)}") from error

    def publish(self, bundle: Path, name: str, version: str) -> str:
        """Copy a checked bundle to NAME/VERSION, the manifest last. Returns its path in the repository.

        Raises:
            InvalidInput: the version exists.
            RepositoryError: the bundle cannot be written. A partial copy is removed.
        """
        self.check_new(name, version)
        place = f"{self._root}/{name}/{version}"
        try:
            self._files.makedirs(f"{self._root}/{name}", exist_ok=True)
            partial = f"{self._root}/{name}/.{version}.{uuid.uuid4().hex}" if self.is_local else place
            try:
                for file in [*_files_of((bundle / MANIFEST).read_bytes()), MANIFEST]:
                    target = f"{partial}/{file}"
                    self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                    self._files.put_file(str(bundle / file), target)
                if self.is_local:
                    os.rename(partial, place)
            except BaseException:
                with suppress(Exception):  # there may be nothing to remove, and the first error must be raised
                    self._files.rm(partial, recursive=True)
                raise
        except Exception as error:
            raise RepositoryError(f"{self.url}/{name}/{version} cannot be written: {_error_text(error)}") from error
        return place

    def check_new(self, name: str, version: str) -> None:
        """Raise InvalidInput if the version exists or a name is not allowed, RepositoryError if the check fails."""
        for what, value in (("name", name), ("version", version)):
            if not NAME.fullmatch(value):
                raise InvalidInput(what, value, "letters, digits, dots, dashes and underscores")
        try:
            self._files.invalidate_cache()
            there = self._files.exists(f"{self._root}/{name}/{version}")
        except Exception as error:
            raise RepositoryError(f"repository {self.url}: {_error_text(error)}") from error
        if there:
            raise InvalidInput("version", version, f"one that {self.url}/{name} does not have: bundles never change")

    def next_version(self, name: str) -> str:
        """The highest version that is a whole number, plus one; 1 if there is none. Raises RepositoryError."""
        try:
            self._files.invalidate_cache()
            versions = self._folders(f"{self._root}/{name}")
        except FileNotFoundError as error:  # the first version of the model, or in an object store, of the repository
            if self.is_local and not self._files.isdir(self._root):
                raise RepositoryError(f"repository {self.url}: {_error_text(error)}") from error
            versions = []
        except Exception as error:
            raise RepositoryError(f"repository {self.url}: {_error_text(error)}") from error
        return str(1 + max((int(version) for version in versions if version.isdecimal()), default=0))

    def _listed(self, name: str) -> Listed:
        folder = f"{self._root}/{name}"
        settings_text = self._read(f"{folder}/{SETTINGS}")
        versions = {}
        for version in sorted(filter(NAME.fullmatch, self._folders(folder)), key=version_order):
            manifest = f"{folder}/{version}/{MANIFEST}"
            if self._files.exists(manifest):
                mark = f"{self._files.ukey(manifest)} {settings_text!r}"
                versions[version] = hashlib.sha256(mark.encode()).hexdigest()[:12]
        problems: list[str] = []
        found: dict[str, Any] = {}
        # Each file is read separately: a problem of one must not put versions of `unloaded.json` back into service.
        for file, read in ((SETTINGS, _read_settings), (ALIASES, read_aliases), (UNLOADED, read_unloaded)):
            try:
                found[file] = read(settings_text if file == SETTINGS else self._read(f"{folder}/{file}"))
            except (ValueError, RecursionError, InvalidInput) as error:
                problems.append(f"{name}/{file} cannot be read: {error}")
        unloaded = found.get(UNLOADED, Unloaded(model=True))
        return Listed(versions, found.get(ALIASES, {}), found.get(SETTINGS, {}), unloaded, "; ".join(problems))

    def _folders(self, path: str) -> list[str]:
        return [
            str(entry["name"]).rstrip("/").rpartition("/")[2]
            for entry in self._files.ls(path, detail=True)
            if entry["type"] == "directory" or (entry.get("islink") and self._files.isdir(entry["name"]))
        ]

    def _read(self, path: str) -> bytes | None:
        try:
            return bytes(self._files.cat_file(path))
        except FileNotFoundError:
            return None

    def _write(self, path: str, data: bytes) -> None:
        if not self.is_local:
            self._files.pipe_file(path, data)
            return
        partial = f"{path}.{uuid.uuid4().hex}.partial"  # two servers may write at once
        try:
            with open(partial, "wb") as file:
                file.write(data)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)

    def _clean_cache(self, found: Mapping[str, Listed]) -> None:
        """Remove bundles from the cache that the repository no longer has."""
        kept = {
            self._cache / name / f"{version}-{mark}"
            for name, it in found.items()
            for version, mark in it.versions.items()
        }
        for path in self._cache.glob("*/[!.]*"):
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)


def _read_settings(text: bytes | None) -> dict[str, Any]:
    return tomllib.loads((text or b"").decode())


def read_aliases(text: bytes | None) -> dict[str, Alias]:
    """Parse `aliases.json`. Raises InvalidInput with every problem, or ValueError if it is not JSON."""
    problems: list[str] = []
    aliases: dict[str, Alias] = from_json(dict[str, Alias], json.loads(text or b"{}"), ALIASES, problems)
    if problems:
        raise InvalidInput(ALIASES, "; ".join(problems), '{"ALIAS": {"version": "3", "share": 0.0}}')
    check_aliases(aliases)
    return aliases


def read_unloaded(text: bytes | None) -> Unloaded:
    """Parse `unloaded.json`. Raises InvalidInput with every problem, or ValueError if it is not JSON."""
    problems: list[str] = []
    unloaded: Unloaded = from_json(
        Unloaded, json.loads(text or b'{"model": false, "versions": []}'), UNLOADED, problems
    )
    if problems:
        raise InvalidInput(UNLOADED, "; ".join(problems), '{"model": false, "versions": ["3"]}')
    return unloaded


def check_aliases(aliases: Mapping[str, Alias]) -> None:
    """Raise InvalidInput for invalid names or shares."""
    for name, alias in aliases.items():
        if not NAME.fullmatch(name):
            raise InvalidInput("alias", name, "letters, digits, dots, dashes and underscores")
        if not 0 <= alias.share <= 1:
            raise InvalidInput("share", alias.share, "0 to 1")
    total = sum(alias.share for alias in aliases.values())
    if total > 1 + 1e-9:
        raise InvalidInput("share", total, "at most 1, all aliases of a model together")


def _files_of(manifest: bytes) -> list[str]:
    value, problems = read_manifest(manifest.decode())
    if value is None:
        raise ValueError("; ".join(problems))
    return list(value.files)


def _error_text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
