"""A simulated model and repository for tests of `ModelVersions`. The versions in service are shown as a string."""

from __future__ import annotations

from dataclasses import replace

from dragoman_service.errors import BundleError
from dragoman_service.repository.models import ServedModel
from dragoman_service.repository.registry import Alias
from dragoman_service.repository.repository import Listed, Unloaded
from dragoman_service.repository.versions import ModelVersions
from support.fake_workers import FakeWorkers, served


class World:
    """A model, the listing of its repository, and bundles, some of which are bad.

    A fingerprint stands for the content of a bundle. Those of good bundles begin with a g.
    """

    def __init__(self) -> None:
        self.model = ModelVersions("m")
        self.unloaded = Unloaded()
        self.loads: list[str] = []
        self.gone: list[str] = []

    def follow(self, versions: str, **aliases: str | tuple[str, float]) -> None:
        """Change the repository, and load what it needs. Versions are VERSION or VERSION=FINGERPRINT."""
        pairs = (item.partition("=") for item in versions.split())
        marks = {version: mark or f"g{version}" for version, _, mark in pairs}
        read = {name: Alias(each) if isinstance(each, str) else Alias(*each) for name, each in aliases.items()}
        self.model.listed = Listed(marks, read, unloaded=self.unloaded)
        self.bring()

    def unload(self, *versions: str, model: bool = False) -> None:
        """Make these the versions that operators have unloaded, and no others."""
        self.unloaded = Unloaded(model, versions)
        self.model.listed = replace(self.model.listed, unloaded=self.unloaded)
        self.bring()

    def bring(self) -> None:
        """Load missing versions until none is missing, then settle, as a rollout does."""
        self.loads, self.gone = [], []
        while missing := self.model.missing():
            version, mark = missing
            self.loads.append(f"{version}={mark}")
            assert len(self.loads) < 100
            if mark.startswith("g"):
                self.model.loaded[version] = (mark, bundle(version, mark))
            else:
                self.model.failed[version] = (mark, BundleError(version, [f"{mark} is bad"]))
        self.gone = [f"{each.description.version}={each.description.description}" for each in self.model.settle()]

    @property
    def serving(self) -> str:
        """The versions in service: the default with a star, and fingerprints that are not the default one."""
        entry = self.model.entry
        if entry is None:
            assert self.model.serving == {}
            return ""
        assert list(entry.versions) == list(self.model.serving)
        assert all(each.version in entry.versions for each in entry.aliases.values())
        shown = []
        for version, each in entry.versions.items():
            mark = each.description.description
            star = "*" if version == entry.default_version else ""
            shown.append(version + (f"={mark}" if mark != f"g{version}" else "") + star)
        return " ".join(shown)

    @property
    def states(self) -> str:
        return " ".join(f"{each.version}:{each.state}" for each in self.model.status())

    @property
    def aliases(self) -> dict[str, str]:
        """The aliases in service."""
        entry = self.model.entry
        return {name: each.version for name, each in entry.aliases.items()} if entry else {}


def bundle(version: str, mark: str) -> ServedModel:
    return served(FakeWorkers(), name="m", version=version, description=mark)
