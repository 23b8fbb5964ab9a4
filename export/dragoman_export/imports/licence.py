"""The licence that a checkpoint states: in the front matter of its model card, or in metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman_export.imports.files import parse_yaml, read_text
from dragoman_service.errors import InvalidInput, visible


def front_matter(folder: Path) -> dict[str, Any]:
    """The fields between the first two lines `---` of README.md; empty if there are none, or no valid ones."""
    path = folder / "README.md"
    if not path.is_file():
        return {}
    try:
        opening, *rest = read_text(path).partition("\n---")[0].split("\n")
        values = parse_yaml("\n".join(rest), path.name) if opening.strip() == "---" else {}
    except InvalidInput:  # a card is for people: a mistake in it does not spoil the weights
        return {}
    return values if isinstance(values, dict) else {}


def licence_of(folder: Path) -> str | None:
    """The licence that README.md of a folder names."""
    card = front_matter(folder)
    stated = card.get("license")
    if stated == "other":
        stated = card.get("license_name", stated)
    named = [visible(it) for it in (stated if isinstance(stated, list) else [stated]) if isinstance(it, str) and it]
    return ", ".join(named) or None


def licence_notes(licence: str | None) -> list[str]:
    """What a user should know about a licence."""
    if licence is None:
        return ["No licence is stated in the checkpoint. Ask its authors before you serve the model."]
    return [f"The licence {licence} forbids commercial use of the model."] if "-nc" in licence.lower() else []
