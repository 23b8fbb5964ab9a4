"""The settings and text files that decide what a run learns, and their comparison when a run is resumed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dragoman_model.recipe import Recipe
from dragoman_service.errors import InvalidInput

Settings = dict[str, Any]
"""Path of a field, such as `training.seed` or `data.train[2].weight` -> its value."""

_MAY_CHANGE = ("training.max_steps", "training.patience", "training.clip_norm", "training.validate_every",
               "training.average_checkpoints", "data.validation")  # fmt: skip
"""Prefixes of the fields that a resumed run may change without `--allow-changes`: the length of the run, the
measurements, the number of checkpoints kept, and gradient clipping."""


def course(recipe: Recipe, files: Mapping[str, Mapping[str, Any]]) -> Settings:
    """All settings of a run, and the fingerprints of its text files: the training corpora and `data.held_out`.

    Args:
        recipe: The recipe of the run.
        files: Path -> `bytes` and `sha256`, from `provenance`.
    """
    learned = [path for corpus in recipe.data.train for path in (corpus.path, corpus.target_path)]
    decisive = dict.fromkeys((*learned, *recipe.data.held_out))
    contents = {f"contents of {path}": files[path]["sha256"] for path in decisive if path and path in files}
    return dict(_flat(recipe.to_json(), "")) | contents


def differences(before: Settings, after: Settings) -> dict[str, tuple[Any, Any]]:
    """All fields that differ: field -> its values before and after. None stands for a missing field."""
    fields = dict.fromkeys((*before, *after))
    return {field: (before.get(field), after.get(field)) for field in fields if before.get(field) != after.get(field)}


def changes(before: Settings | None, after: Settings, allowed: bool) -> dict[str, tuple[Any, Any]]:
    """The fields that a resumed run changes, as returned by `differences`. Empty if `before` is None (unknown).

    Raises:
        InvalidInput: not `allowed`, and one of the fields decides what is learned.
    """
    changed = {} if before is None else differences(before, after)
    refused = {field: values for field, values in changed.items() if not field.startswith(_MAY_CHANGE)}
    if refused and not allowed:
        wanted = "the recipe and text of this run, or --allow-changes to go on with the new ones and record the changes"
        raise InvalidInput("--resume", f"{len(refused)} changes", f"{wanted}: {shown(refused)}")
    return changed


def shown(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """The differences as one line of text."""
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
