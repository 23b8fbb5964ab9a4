"""The models and versions in service, and the routing of requests to them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field

from dragoman_service.errors import InvalidInput, NotFound
from dragoman_service.repository.candidates import Candidates, listed
from dragoman_service.repository.models import Route, ServedModel

STABLE = "stable"
"""The alias of the version that a name alone means. Without this alias, it means the newest version."""


@dataclass(frozen=True, slots=True)
class Alias:
    """A name for a version."""

    version: str
    share: float = 0.0
    """Share, 0 to 1, of the requests without a version that goes to this one."""


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model in service."""

    versions: Mapping[str, ServedModel]
    """Version -> its model; at least one, the oldest first."""
    default_version: str
    """The version that the name alone means, apart from the shares of aliases."""
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    """Alias name -> alias of one of these versions."""

    @property
    def default(self) -> ServedModel:
        """The model of the default version."""
        return self.versions[self.default_version]

    def aliases_of(self, version: str) -> list[str]:
        """The aliases of a version, sorted."""
        return sorted(name for name, alias in self.aliases.items() if alias.version == version)

    def drawn(self, number: float) -> ServedModel:
        """The version for a request that names none. `number`, 0 to 1, selects an alias by share, or the default."""
        for _, alias in sorted(self.aliases.items()):
            number -= alias.share
            if number < 0:
                return self.versions[alias.version]
        return self.default


class ModelRegistry:
    """The models of a server, the default first. Entries are replaced, never changed, so a route stays valid."""

    def __init__(self, models: Sequence[ServedModel] = (), *, draw: Callable[[], float] = random.random) -> None:
        check_names([model.description.name for model in models])
        self._draw = draw
        self.entries: dict[str, ModelEntry] = {
            model.description.name: ModelEntry({model.description.version: model}, model.description.version)
            for model in models
        }

    @property
    def models(self) -> list[ServedModel]:
        """All versions of all models; the default version of a name comes first."""
        return [
            model
            for entry in self.entries.values()
            for model in sorted(entry.versions.values(), key=lambda model: model is not entry.default)
        ]

    def replace(self, name: str, entry: ModelEntry | None) -> None:
        """Replace the entry of a model. None removes the model from service."""
        if entry is None:
            self.entries.pop(name, None)
        else:
            self.entries[name] = entry

    async def settled(self) -> None:
        """Wait until no process begins a call by an older registry than this one. In one process, none does."""

    def route(
        self, name: str, source_language: str, target_language: str, allowed: Container[str] | None = None
    ) -> Route:
        """Find the model and the language pair for a request.

        Args:
            name: NAME, for which a version is drawn by the shares of aliases, NAME@VERSION or NAME@ALIAS. Empty: the
                first model with the language pair.
            source_language: Empty: the only source language that fits.
            target_language: Empty: the only target language that fits.
            allowed: Names of models. Others are as if they were not there. None: all.

        Raises:
            NotFound: no such model, version or language pair. The message lists the available ones.
            InvalidInput: several language pairs fit.
        """
        return self.candidates(name, allowed).route(source_language, target_language)

    def candidates(self, name: str, allowed: Container[str] | None = None) -> Candidates:
        """The models that a request may mean, as for `route`. Raises NotFound: no such model or version."""
        return Candidates(self._candidates(name, allowed))

    def _candidates(self, selector: str, allowed: Container[str] | None) -> list[ServedModel]:
        """The versions that `selector` allows, in order of preference.

        The default version follows the drawn one, because the drawn one may lack a language pair that the default has.
        """
        name, at, version = selector.partition("@")
        entries = self.entries
        if allowed is not None:
            entries = {model: entry for model, entry in entries.items() if model in allowed}
        if not selector:
            return [model for entry in entries.values() for model in (entry.drawn(self._draw()), entry.default)]
        entry = entries.get(name)
        if entry is None:
            there = listed(entries, len(entries)) or "none"
            raise NotFound(f"no model {name[:80]!r}; there are: {there}")
        if not at:
            return [entry.drawn(self._draw()), entry.default]
        alias = entry.aliases.get(version)
        found = entry.versions.get(alias.version if alias else version)
        if found is None:
            names = [*entry.versions, *sorted(entry.aliases)]
            there = listed(names, len(names))
            raise NotFound(f"no version or alias {version[:80]!r} of model {name} in service; there are: {there}")
        return [found]


def version_order(version: str) -> list[tuple[int, str]]:
    """Sort key of versions: 9 comes before 10, and 1.9 before 1.10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.findall(r"\d+|\D+", version)]


def check_names(names: Sequence[str]) -> None:
    """Raise InvalidInput if two models have the same name."""
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InvalidInput("models", twice, "each name once; versions side by side are for a --repository")
