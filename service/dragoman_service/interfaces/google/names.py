"""Names of resources: `projects/P/locations/L/models/M` and the like. Projects and locations may be any."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dragoman_service.errors import InvalidInput

_PARENT = r"projects/[^/\s]{1,100}(?:/locations/[^/\s]{1,100})?"
_PARENT_FORM = "projects/PROJECT or projects/PROJECT/locations/LOCATION"
_DEFAULT_MODELS = ("general/nmt", "general/base")
"""Google's own general models: the default here."""
_LANGUAGE_DETECTION = "language-detection/"


@dataclass(frozen=True, slots=True)
class Resource:
    """A resource below a project."""

    parent: str
    id: str


def check_parent(field: str, value: str) -> str:
    """Return the name of a project or location. Raises InvalidInput for what is none."""
    if not re.fullmatch(_PARENT, value):
        raise InvalidInput(field, value, _PARENT_FORM)
    return value


def resource(field: str, value: str, collection: str) -> Resource:
    """The resource of a collection, such as `glossaries`, that has this name. Raises InvalidInput."""
    match = re.fullmatch(f"({_PARENT})/{collection}/([^/\\s]{{1,400}})", value)
    if match is None:
        raise InvalidInput(field, value, f"projects/PROJECT/locations/LOCATION/{collection}/ID")
    return Resource(match[1], match[2])


def entry_resource(field: str, value: str) -> tuple[Resource, str]:
    """The glossary of the entry that has this name, and the entry's id. Raises InvalidInput."""
    glossary, found, entry = value.rpartition("/glossaryEntries/")
    if not found or not entry or "/" in entry:
        raise InvalidInput(field, value, "projects/PROJECT/locations/LOCATION/glossaries/ID/glossaryEntries/ENTRY")
    return resource(field, glossary, "glossaries"), entry


def model_selector(value: str) -> str:
    """The model of `dragoman.v1` that a name means: NAME, NAME@VERSION or NAME@ALIAS; empty for the default.

    Raises InvalidInput for what is no name of a model.
    """
    if not value:
        return ""
    match = re.fullmatch(f"{_PARENT}/models/(.{{1,300}})", value, re.DOTALL)
    if match is None:
        raise InvalidInput("model", value, "projects/PROJECT/locations/LOCATION/models/MODEL")
    return "" if match[1] in _DEFAULT_MODELS else match[1]


def check_detection_model(value: str) -> None:
    """Raise InvalidInput for a model that is not one for the detection of languages. There is only one."""
    if value and not re.fullmatch(f"{_PARENT}/models/{_LANGUAGE_DETECTION}[^/]{{1,100}}", value):
        allowed = f"none, or projects/PROJECT/locations/LOCATION/models/{_LANGUAGE_DETECTION}default"
        raise InvalidInput("model", value, allowed)
