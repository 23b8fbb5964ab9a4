"""What decides the course of a run: two recipes compared field by field, and the files of text they were run on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dragoman_model.recipe import Recipe
from dragoman_service.errors import InvalidInput

Settings = dict[str, Any]
"""Path of a field, such as `training.seed` or `data.train[2].weight` -> its value."""

_FREE = ("training.max_steps", "training.patience", "training.clip_norm", "training.validate_every",
         "training.average_checkpoints", "data.validation")  # fmt: skip
"""Beginnings of fields that may change without being asked for: how long a run goes on, what is measured and kept, and
the bound that saves a run from diverging."""


def course(recipe: Recipe, files: Mapping[str, Mapping[str, Any]]) -> Settings:
    """All settings of a run, and the contents of the files that decide what it learns from.

    Args:
        recipe: Of the run.
        files: Path -> `bytes` and `sha256`, as `provenance` notes them.
    """
    learned = [path for corpus in recipe.data.train for path in (corpus.path, corpus.target_path)]
    decisive = dict.fromkeys((*learned, *recipe.data.held_out))
    contents = {f"contents of {path}": files[path]["sha256"] for path in decisive if path and path in files}
    return dict(_flat(recipe.to_json(), "")) | contents


def differences(before: Settings, after: Settings) -> dict[str, tuple[Any, Any]]:
    """Field -> its value before and after, None where there is none, of all fields that differ."""
    fields = dict.fromkeys((*before, *after))
    return {field: (before.get(field), after.get(field)) for field in fields if before.get(field) != after.get(field)}


def changes(before: Settings | None, after: Settings, allowed: bool) -> dict[str, tuple[Any, Any]]:
    """What a resumed run changes, as `differences` gives it; nothing if it is not known what was before.

    Raises:
        InvalidInput: some of it changes what is learned, and that is not `allowed`.
    """
    changed = {} if before is None else differences(before, after)
    refused = {field: values for field, values in changed.items() if not field.startswith(_FREE)}
    if refused and not allowed:
        wanted = "the recipe and text of this run, or --allow-changes to go on with these and note them"
        raise InvalidInput("--resume", f"{len(refused)} changes", f"{wanted}: {shown(refused)}")
    return changed


def shown(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Differences in one line."""
    return "; ".join(f"{field}: {before!r} -> {after!r}" for field, (before, after) in changed.items())


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{index}]")
    else:
        yield path, value
