"""The state of the versions of one model, and the choice of those that should serve. No clock, no threads, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dragoman_service.errors import DragomanError
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import STABLE, Alias, ModelEntry, version_order
from dragoman_service.repository.repository import Listed


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """The status of a version, for operators."""

    name: str
    version: str
    state: str
    """serving, available, failed, or unloaded (on request)."""
    reason: str
    """Why the bundle in the repository could not be loaded; empty if it could. An earlier bundle of the version may
    still serve."""
    aliases: Mapping[str, Alias]
    """Aliases of this version."""
    default: bool
    """Whether the name of the model alone means it."""


@dataclass
class ModelVersions:
    """The state of a model: the contents of the repository, the versions in service, and the requests of operators."""

    name: str
    listed: Listed = field(default_factory=Listed)
    serving: dict[str, tuple[str, ServedModel]] = field(default_factory=dict)
    """Version -> the fingerprint of its bundle, and the model in service."""
    loaded: dict[str, tuple[str, ServedModel]] = field(default_factory=dict)
    """As `serving`, for versions that serve from the next `settle` on."""
    failed: dict[str, tuple[str, DragomanError]] = field(default_factory=dict)
    """Version -> the fingerprint of the bundle that could not be loaded, and the error."""
    asked: set[str] = field(default_factory=set)
    """Versions loaded on request."""
    entry: ModelEntry | None = None
    """The versions in service; None if there are none."""

    def copy(self) -> ModelVersions:
        """A copy whose changes do not affect this one."""
        containers = {name: getattr(self, name).copy() for name in ("serving", "loaded", "failed", "asked")}
        return replace(self, **containers)

    def failure(self, version: str) -> DragomanError | None:
        """The error of the bundle that the repository has of a version; None if no attempt to load it has failed."""
        mark, error = self.failed.get(version, ("", None))
        return error if mark == self.listed.versions.get(version) else None

    def missing(self) -> tuple[str, str] | None:
        """The next version to load and its fingerprint; None if all that should serve are loaded or have failed."""
        for version in self._wanted():
            mark = self.listed.versions[version]
            there = {self.serving.get(version, ("",))[0], self.loaded.get(version, ("",))[0]}
            if mark not in there and not self.failure(version):
                return version, mark
        return None

    def settle(self) -> list[ServedModel]:
        """Choose the versions to serve, and set `serving` and `entry`. Returns the models that stopped serving."""
        there = {
            version: item
            for version, item in {**self.serving, **self.loaded}.items()
            if version not in self.listed.unloaded
        }
        before = self.entry.aliases if self.entry else {}
        # An alias whose new version could not be loaded keeps its old version.
        aliases = {
            alias: next((it for it in (new, before.get(alias)) if it and it.version in there), None)
            for alias, new in self.listed.aliases.items()
        }
        real = {alias: it for alias, it in aliases.items() if it}
        kept = there.keys() & {*self._wanted(), *(it.version for it in real.values())}
        serving = {version: there[version] for version in sorted(kept or there, key=version_order)}
        going = [item[1] for item in (*self.serving.values(), *self.loaded.values()) if item not in serving.values()]
        self.serving, self.loaded = serving, {}
        self.entry = None
        if serving:
            versions = {version: served for version, (_, served) in serving.items()}
            self.entry = ModelEntry(versions, self._default(list(versions), real), real)
        return going

    def status(self) -> list[VersionStatus]:
        """The status of all known versions, the oldest first."""
        return [self._status(version) for version in sorted({*self.listed.versions, *self.serving}, key=version_order)]

    def _status(self, version: str) -> VersionStatus:
        error = self.failure(version)
        state = "unloaded" if version in self.listed.unloaded else "failed" if error else "available"
        return VersionStatus(
            name=self.name,
            version=version,
            state="serving" if version in self.serving else state,
            reason=str(error or ""),
            aliases={alias: it for alias, it in self.listed.aliases.items() if it.version == version},
            default=self.entry is not None and self.entry.default_version == version,
        )

    def _wanted(self) -> list[str]:
        """The versions that should serve, the oldest first: those of aliases, those asked for, and the default one.

        Unloaded versions are left out, as are those that do not serve and whose bundle has failed.
        """
        usable = [
            version
            for version in self.listed.versions
            if version not in self.listed.unloaded and (version in self.serving or not self.failure(version))
        ]
        chosen = {alias.version for alias in self.listed.aliases.values()} | self.asked
        if usable:
            chosen.add(self._default(usable, self.listed.aliases))
        return [version for version in usable if version in chosen]

    def _default(self, versions: list[str], aliases: Mapping[str, Alias]) -> str:
        """Choose from `versions`, the oldest first, the one for the name alone: the stable one, else the newest.

        If the stable version is not among `versions`, it is the next older one: a newer one was never marked stable.
        """
        stable = aliases.get(STABLE) or self.listed.aliases.get(STABLE)
        older = [it for it in versions if stable and version_order(it) <= version_order(stable.version)]
        return (older or versions)[-1]
