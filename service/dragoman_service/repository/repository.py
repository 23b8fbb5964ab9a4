"""A model repository: folders NAME/VERSION with a bundle in each, on a disk or wherever fsspec reads.

    NAME/VERSION/manifest.json ...   a bundle; one is there as soon as its manifest is
    NAME/aliases.json                names for versions: {"stable": {"version": "3", "share": 0.0}}
    NAME/unloaded.json               versions that operators took out of service: {"model": false, "versions": ["3"]}
    NAME/serving.toml                optional: settings of the server for this model alone, such as `max_rows = 16`

Nothing else is looked at, nor what begins with a dot.
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
from dragoman_service.bundle.manifest import NAME, from_json, read_manifest
from dragoman_service.errors import InvalidInput, RepositoryError
from dragoman_service.repository.registry import Alias, version_order

ALIASES = "aliases.json"
SETTINGS = "serving.toml"
UNLOADED = "unloaded.json"


@dataclass(frozen=True, slots=True)
class Unloaded:
    """What operators have taken out of service, until it is loaded by name."""

    model: bool = False
    """The whole model: its versions to come as well."""
    versions: tuple[str, ...] = ()
    """Versions, in any order."""

    def __contains__(self, version: str) -> bool:
        return self.model or version in self.versions

    def with_version(self, version: str) -> Unloaded:
        """This, and one version more."""
        return replace(self, versions=tuple(sorted({*self.versions, version})))

    def without_version(self, version: str) -> Unloaded:
        """This, but for one version; that it is loaded ends the holding of the model."""
        return Unloaded(versions=tuple(other for other in self.versions if other != version))


@dataclass(frozen=True, slots=True)
class Listed:
    """What a repository has of one model."""

    versions: Mapping[str, str] = field(default_factory=dict)
    """Version -> fingerprint, which changes with the bundle and its settings; the oldest version first."""
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    unloaded: Unloaded = Unloaded()
    problem: str = ""
    """What is wrong with the files beside the bundles; then aliases and settings are not to be relied on. Where
    `unloaded.json` cannot be read, the whole model is taken to be unloaded."""


class Repository:
    """Reads and writes a repository. Methods block; any thread may call them, one at a time."""

    def __init__(self, url: str, cache: Path) -> None:
        """`url` is a path, or an address that fsspec knows, as s3://bucket/models; bundles from afar go to `cache`.

        Raises RepositoryError if a library is missing, or the address makes no sense.
        """
        self.url = url
        try:
            self._files, self._root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError, OSError) as error:
            raise RepositoryError(f"repository {url}: {error}") from error
        self._is_local = isinstance(self._files, LocalFileSystem)
        self._cache = cache / hashlib.sha256(url.encode()).hexdigest()[:16]

    def scan(self) -> dict[str, Listed]:
        """Everything that is there, by name. Raises RepositoryError."""
        try:
            self._files.invalidate_cache()
            names = [name for name in self._folders(self._root) if NAME.fullmatch(name)]
            found = {name: self._listed(name) for name in sorted(names)}
        except Exception as error:  # what file systems raise shares no base class
            raise RepositoryError(f"repository {self.url}: {_said(error)}") from error
        self._forget_all_but(found)
        return {name: listed for name, listed in found.items() if listed.versions or listed.problem}

    def fetch(self, name: str, version: str, fingerprint: str) -> Path:
        """The folder of a bundle on this machine. It is not checked here. Raises RepositoryError."""
        source = f"{self._root}/{name}/{version}"
        if self._is_local:
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
                if not place.is_dir():  # else another server that shares the cache was there first
                    raise
        except Exception as error:
            raise RepositoryError(f"{self.url}/{name}/{version} cannot be fetched: {_said(error)}") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        return place

    def discard(self, path: Path) -> None:
        """A fetched bundle turned out to be bad: have it fetched anew if it is asked for again."""
        if not self._is_local:
            shutil.rmtree(path, ignore_errors=True)

    def write_aliases(self, name: str, aliases: Mapping[str, Alias]) -> None:
        """Replace a model's aliases, at once or not at all. Raises RepositoryError."""
        self._write_json(name, ALIASES, {alias: asdict(value) for alias, value in sorted(aliases.items())})

    def write_unloaded(self, name: str, unloaded: Unloaded) -> None:
        """Replace what is kept of a model's versions out of service, at once or not at all. Raises RepositoryError."""
        self._write_json(name, UNLOADED, asdict(unloaded))

    def _write_json(self, name: str, file: str, value: Any) -> None:
        try:
            self._write(f"{self._root}/{name}/{file}", (json.dumps(value, indent=2) + "\n").encode())
        except Exception as error:
            raise RepositoryError(f"{self.url}/{name}/{file} cannot be written: {_said(error)}") from error

    def publish(self, bundle: Path, name: str, version: str) -> str:
        """Copy a bundle that has been checked into its place, the manifest last; returns where.

        Raises InvalidInput if there is one already, RepositoryError if it cannot be written; then nothing is left.
        """
        self.check_new(name, version)
        place = f"{self._root}/{name}/{version}"
        try:
            self._files.makedirs(f"{self._root}/{name}", exist_ok=True)
            partial = f"{self._root}/{name}/.{version}.{uuid.uuid4().hex}" if self._is_local else place
            try:
                for file in [*_files_of((bundle / MANIFEST).read_bytes()), MANIFEST]:
                    target = f"{partial}/{file}"
                    self._files.makedirs(target.rpartition("/")[0], exist_ok=True)
                    self._files.put_file(str(bundle / file), target)
                if self._is_local:
                    os.rename(partial, place)
            except BaseException:
                with suppress(Exception):  # there may be nothing yet; what went wrong is what matters
                    self._files.rm(partial, recursive=True)
                raise
        except Exception as error:
            raise RepositoryError(f"{self.url}/{name}/{version} cannot be written: {_said(error)}") from error
        return place

    def check_new(self, name: str, version: str) -> None:
        """Raise InvalidInput if there is such a bundle already, RepositoryError if nobody can tell."""
        for what, value in (("name", name), ("version", version)):
            if not NAME.fullmatch(value):
                raise InvalidInput(what, value, "letters, digits, dots, dashes and underscores")
        try:
            self._files.invalidate_cache()
            there = self._files.exists(f"{self._root}/{name}/{version}")
        except Exception as error:
            raise RepositoryError(f"repository {self.url}: {_said(error)}") from error
        if there:
            raise InvalidInput("version", version, f"one that {self.url}/{name} does not have: bundles never change")

    def next_version(self, name: str) -> str:
        """One more than the highest whole number that is a version; 1 if there is none. Raises RepositoryError."""
        try:
            self._files.invalidate_cache()
            versions = self._folders(f"{self._root}/{name}")
        except FileNotFoundError as error:  # the first of its name; in an object store, of all
            if self._is_local and not self._files.isdir(self._root):
                raise RepositoryError(f"repository {self.url}: {_said(error)}") from error
            versions = []
        except Exception as error:
            raise RepositoryError(f"repository {self.url}: {_said(error)}") from error
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
        # Each by itself: what is wrong with one must not bring back what another keeps out of service.
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
        if not self._is_local:
            self._files.pipe_file(path, data)
            return
        partial = f"{path}.{uuid.uuid4().hex}.partial"  # two servers may write at once
        try:
            with open(partial, "wb") as file:
                file.write(data)
            os.replace(partial, path)
        finally:
            Path(partial).unlink(missing_ok=True)

    def _forget_all_but(self, found: Mapping[str, Listed]) -> None:
        """Remove from the cache what the repository does not have any more."""
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
    """Parse `aliases.json`. Raises InvalidInput with every problem, or ValueError for what is no JSON."""
    problems: list[str] = []
    aliases: dict[str, Alias] = from_json(dict[str, Alias], json.loads(text or b"{}"), ALIASES, problems)
    if problems:
        raise InvalidInput(ALIASES, "; ".join(problems), '{"ALIAS": {"version": "3", "share": 0.0}}')
    check_aliases(aliases)
    return aliases


def read_unloaded(text: bytes | None) -> Unloaded:
    """Parse `unloaded.json`. Raises InvalidInput with every problem, or ValueError for what is no JSON."""
    problems: list[str] = []
    unloaded: Unloaded = from_json(
        Unloaded, json.loads(text or b'{"model": false, "versions": []}'), UNLOADED, problems
    )
    if problems:
        raise InvalidInput(UNLOADED, "; ".join(problems), '{"model": false, "versions": ["3"]}')
    return unloaded


def check_aliases(aliases: Mapping[str, Alias]) -> None:
    """Raise InvalidInput for names or shares that cannot be."""
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


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
