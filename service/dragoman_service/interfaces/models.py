"""What the models in service translate, as `ListModels` tells it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import NotFound, visible
from dragoman_service.text.language_tags import canonical

_MOST_SHOWN = 50


def default_versions(models: Iterable[pb.ModelInfo]) -> list[pb.ModelInfo]:
    """One version of each model: the one that its name alone means."""
    return [model for model in models if model.is_default]


def chosen(models: Sequence[pb.ModelInfo], selector: str) -> list[pb.ModelInfo]:
    """The models of NAME, NAME@VERSION or NAME@ALIAS; the default version of every model for none.

    Raises NotFound.
    """
    if not selector:
        return default_versions(models)
    name, at, version = selector.partition("@")
    versions = [model for model in models if model.name == name]
    found = [it for it in versions if version in (it.version, *it.aliases)] if at else default_versions(versions)
    if not found:
        there = ", ".join(model.name for model in default_versions(models)[:_MOST_SHOWN]) or "none"
        raise NotFound(f"no model {visible(selector)!r}; there are: {there}")
    return found


def sources_of(model: pb.ModelInfo) -> list[str]:
    """The languages from which a model translates, each once."""
    return _each_once([*(pair.source_language for pair in model.language_pairs), *model.source_languages])


def targets_of(model: pb.ModelInfo) -> list[str]:
    """The languages into which a model translates, each once."""
    return _each_once([*(pair.target_language for pair in model.language_pairs), *model.target_languages])


def languages_of(models: Iterable[pb.ModelInfo]) -> dict[str, tuple[bool, bool]]:
    """Language -> whether some model translates from it, and whether one translates into it; ordered by tag."""
    sources: dict[str, str] = {}
    targets: dict[str, str] = {}
    for model in models:
        for tag in sources_of(model):
            sources.setdefault(canonical(tag), tag)
        for tag in targets_of(model):
            targets.setdefault(canonical(tag), tag)
    keys = sorted({*sources, *targets})
    return {sources.get(key) or targets[key]: (key in sources, key in targets) for key in keys}


def _each_once(tags: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(tags))
