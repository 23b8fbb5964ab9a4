"""The licence that a model card states in its front matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dragoman_export.imports.files import parse_yaml, read_text
from dragoman_service.errors import InvalidInput


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


def licence_of(folder: Path) -> tuple[str | None, list[str]]:
    """The licence of a folder, as its README.md names it, and what to tell the user about it."""
    card = front_matter(folder)
    stated = card.get("license")
    if stated == "other":
        stated = card.get("license_name", stated)
    licence = ", ".join(map(str, stated)) if isinstance(stated, list) else str(stated) if stated else None
    if licence is None:
        return None, ["No licence is stated: README.md has no `license:`. Ask the authors before you serve the model."]
    if "-nc" in licence.lower():
        return licence, [f"The licence {licence} forbids commercial use of the model."]
    return licence, []
