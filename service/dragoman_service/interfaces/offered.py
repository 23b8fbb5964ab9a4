"""Which languages the models in service translate, as interfaces list them."""

from __future__ import annotations

from collections.abc import Iterable

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.text.language_tags import TagIndex, canonical


class Offered:
    """The languages of models. Tags are canonical."""

    def __init__(self, models: Iterable[pb.ModelInfo]) -> None:
        self.targets: dict[str, list[str]] = {}
        """Source language -> the languages that it is translated into, in the order of the models."""
        found: dict[str, dict[str, None]] = {}
        for model in models:
            targets = dict.fromkeys(map(canonical, model.target_languages))
            for source in map(canonical, model.source_languages):
                found.setdefault(source, {}).update({it: None for it in targets if it != source})
            for pair in model.language_pairs:
                found.setdefault(canonical(pair.source_language), {})[canonical(pair.target_language)] = None
        self.targets = {source: list(targets) for source, targets in found.items()}
        all_of_them = dict.fromkeys((*self.targets, *(target for its in self.targets.values() for target in its)))
        self.languages = list(all_of_them)
        """All languages, sources first."""
        self._index = TagIndex(self.languages)

    @property
    def all_targets(self) -> list[str]:
        """The languages that are translated into."""
        return list(dict.fromkeys(target for targets in self.targets.values() for target in targets))

    def find(self, tag: str) -> str | None:
        """The language that a tag stands for; None if there is none."""
        fits = self._index.fits(tag)
        return fits[0][1] if fits else None
