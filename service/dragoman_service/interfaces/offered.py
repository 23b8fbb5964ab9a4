"""Which languages are translated into which by the models in service."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.interfaces.models import languages_of
from dragoman_service.text.language_tags import TagIndex, canonical


class Offered:
    """The languages of models. Tags are canonical."""

    def __init__(self, models: Iterable[pb.ModelInfo]) -> None:
        models = list(models)
        self.languages = list(map(canonical, languages_of(models)))
        """All of them."""
        self._index = TagIndex(self.languages)
        self.targets: dict[str, list[str]] = {}
        """Source language -> those that it is translated into."""
        found: dict[str, set[str]] = {}
        for model in models:
            targets = set(map(canonical, model.target_languages))
            for source in map(canonical, model.source_languages):
                found.setdefault(source, set()).update(targets - {source})
            for pair in model.language_pairs:
                found.setdefault(canonical(pair.source_language), set()).add(canonical(pair.target_language))
        self.targets = {source: sorted(targets) for source, targets in found.items()}

    def find(self, tag: str) -> str | None:
        """The language that a tag stands for; None if there is none."""
        fits = self._index.fits(tag)
        return fits[0][1] if fits else None
