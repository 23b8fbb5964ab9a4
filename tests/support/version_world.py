"""A model and its repository, both made up: versions come, go bad, and change, and what serves is written in a line."""

from __future__ import annotations

from dataclasses import replace

from dragoman_service.errors import BundleError
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import Alias
from dragoman_service.repository.repository import Listed, Unloaded
from dragoman_service.repository.versions import ModelVersions
from support.fake_workers import FakeWorkers, served


class World:
    """A model, a repository that lists it, and bundles of which some are bad. Fingerprints are what is in the bundle:
    good ones begin with a g."""

    def __init__(self) -> None:
        self.model = ModelVersions("m")
        self.unloaded = Unloaded()
        self.loads: list[str] = []
        self.gone: list[str] = []

    def follow(self, versions: str, **aliases: str | tuple[str, float]) -> None:
        """The repository has changed: versions are VERSION or VERSION=FINGERPRINT."""
        pairs = (item.partition("=") for item in versions.split())
        marks = {version: mark or f"g{version}" for version, _, mark in pairs}
        read = {name: Alias(it) if isinstance(it, str) else Alias(*it) for name, it in aliases.items()}
        self.model.listed = Listed(marks, read, unloaded=self.unloaded)
        self.bring()

    def unload(self, *versions: str, model: bool = False) -> None:
        """Operators have taken these out of service, and no others."""
        self.unloaded = Unloaded(model, versions)
        self.model.listed = replace(self.model.listed, unloaded=self.unloaded)
        self.bring()

    def bring(self) -> None:
        """As a rollout does: load what is missing until nothing is, and settle."""
        self.loads, self.gone = [], []
        while missing := self.model.missing():
            version, mark = missing
            self.loads.append(f"{version}={mark}")
            assert len(self.loads) < 100
            if mark.startswith("g"):
                self.model.loaded[version] = (mark, bundle(version, mark))
            else:
                self.model.failed[version] = (mark, BundleError(version, [f"{mark} is bad"]))
        self.gone = [f"{it.description.version}={it.description.description}" for it in self.model.settle()]

    @property
    def serving(self) -> str:
        """The versions, the default with a star; a fingerprint where it is not the first good one."""
        entry = self.model.entry
        if entry is None:
            assert self.model.serving == {}
            return ""
        assert list(entry.versions) == list(self.model.serving)
        assert all(it.version in entry.versions for it in entry.aliases.values())
        shown = []
        for version, it in entry.versions.items():
            mark = it.description.description
            star = "*" if version == entry.default_version else ""
            shown.append(version + (f"={mark}" if mark != f"g{version}" else "") + star)
        return " ".join(shown)

    @property
    def states(self) -> str:
        return " ".join(f"{it.version}:{it.state}" for it in self.model.status())

    @property
    def aliases(self) -> dict[str, str]:
        """Those that are in force."""
        entry = self.model.entry
        return {name: it.version for name, it in entry.aliases.items()} if entry else {}


def bundle(version: str, mark: str) -> ServedModel:
    return served(FakeWorkers(), name="m", version=version, description=mark)
