"""The versions of one model: which should serve, and what is to be done about it. No clock, no threads, no files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dragoman_service.errors import DragomanError
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import STABLE, Alias, ModelEntry, version_order
from dragoman_service.repository.repository import Listed


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version, as operators see it."""

    name: str
    version: str
    state: str
    """serving, available, failed, or unloaded (on request)."""
    reason: str
    """Why what the repository has failed, if it did; another bundle of the version may be serving."""
    aliases: Mapping[str, Alias]
    """Its own."""
    default: bool
    """Whether a name alone means it."""


@dataclass
class ModelVersions:
    """What is known of a model: what the repository has, what serves, and what operators want."""

    name: str
    listed: Listed = field(default_factory=Listed)
    serving: dict[str, tuple[str, ServedModel]] = field(default_factory=dict)
    """By version: the fingerprint that it was loaded with, and what serves it."""
    loaded: dict[str, tuple[str, ServedModel]] = field(default_factory=dict)
    """What is to serve from the next `settle` on."""
    failed: dict[str, tuple[str, DragomanError]] = field(default_factory=dict)
    """By version: the fingerprint that could not be loaded, and why."""
    asked: set[str] = field(default_factory=set)
    """Versions loaded on request."""
    entry: ModelEntry | None = None
    """How it is served."""

    def copy(self) -> ModelVersions:
        """One that can be changed without changing this."""
        containers = {name: getattr(self, name).copy() for name in ("serving", "loaded", "failed", "asked")}
        return replace(self, **containers)

    def failure(self, version: str) -> DragomanError | None:
        """Why what the repository has of a version could not be loaded."""
        mark, error = self.failed.get(version, ("", None))
        return error if mark == self.listed.versions.get(version) else None

    def missing(self) -> tuple[str, str] | None:
        """The next version to load, and its fingerprint; None if all that should serve is there or known to be bad."""
        for version in self._wanted():
            mark = self.listed.versions[version]
            there = {self.serving.get(version, ("",))[0], self.loaded.get(version, ("",))[0]}
            if mark not in there and not self.failure(version):
                return version, mark
        return None

    def settle(self) -> list[ServedModel]:
        """Decide on `entry`, and have it serve; returns what serves no more."""
        there = {
            version: item
            for version, item in {**self.serving, **self.loaded}.items()
            if version not in self.listed.unloaded
        }
        before = self.entry.aliases if self.entry else {}
        # An alias whose new version could not be loaded stays where it was.
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
        """All versions that are known, the oldest first."""
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
        """The versions that should serve, the oldest first, of those that are not unloaded nor known to be bad.

        Those that aliases mean, those asked for, and one for the name alone.
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
        """Of these versions, the oldest first, the one for the name alone: the stable one, else the newest.

        If there is a stable one, but it is not among these, it is the next older one, rather than one that nobody has
        called stable.
        """
        stable = aliases.get(STABLE) or self.listed.aliases.get(STABLE)
        older = [it for it in versions if stable and version_order(it) <= version_order(stable.version)]
        return (older or versions)[-1]
