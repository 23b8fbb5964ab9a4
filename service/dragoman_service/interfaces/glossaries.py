"""What the interfaces of others do with the glossaries of `dragoman.v1`: find, read, change and delete them.

A glossary of the server has one pair of languages, and glossaries of several pairs may have the same name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from dragoman_protos.v1 import glossaries_pb2 as v1
from dragoman_service.errors import Conflict, InvalidInput, NotFound, visible
from dragoman_service.interfaces.backend import Glossaries
from dragoman_service.interfaces.fields import renamed_fields

_MOST_SHOWN = 50
_ATTEMPTS = 5
"""Of a change, if others change the glossary at the same time."""

Changed: TypeAlias = tuple[v1.UpdateGlossaryRequest, Mapping[str, str]]
"""A request for a change, and the names of its fields for `renamed_fields`."""
Change: TypeAlias = Callable[[v1.Glossary], Changed]
"""Makes a change from the glossary as it is. Raises errors."""


def glossary_id(glossary: v1.Glossary, all_of: Iterable[v1.Glossary]) -> str:
    """The id of a glossary: its name; NAME.SOURCE-TARGET, with its languages, if several have the name."""
    same = [other for other in all_of if other.name == glossary.name]
    return glossary.name if len(same) <= 1 else _long_id(glossary)


def _long_id(glossary: v1.Glossary) -> str:
    return f"{glossary.name}.{glossary.source_language}-{glossary.target_language}"


def find(wanted: str, all_of: Sequence[v1.Glossary]) -> v1.Glossary:
    """The glossary of an id. Raises NotFound, and InvalidInput for a name that several have."""
    found = [glossary for glossary in all_of if glossary.name == wanted]
    found = found or [glossary for glossary in all_of if _long_id(glossary) == wanted]
    if not found:
        raise no_glossary(wanted, (glossary_id(it, all_of) for it in all_of))
    if len(found) > 1:
        raise InvalidInput("name", wanted, f"one of {', '.join(map(_long_id, found))}")
    return found[0]


def no_glossary(wanted: str, ids: Iterable[str]) -> NotFound:
    """The error for an id that no glossary has; `ids` are those that there are."""
    there = ", ".join(list(ids)[:_MOST_SHOWN]) or "none"
    return NotFound(f"no glossary {visible(wanted)!r}; there are: {there}")


def name_of(glossary: str, source_language: str, target_language: str) -> str:
    """The name of a glossary, by its id and the languages of a request, whatever their upper and lower case."""
    pair = f".{source_language}-{target_language}"
    return glossary[: -len(pair)] if glossary.lower().endswith(pair.lower()) else glossary


async def all_of(glossaries: Glossaries, call: Any) -> list[v1.Glossary]:
    """All glossaries, without their entries."""
    return list((await glossaries.ListGlossaries(v1.ListGlossariesRequest(), call)).glossaries)


async def whole(glossaries: Glossaries, glossary: v1.Glossary, call: Any) -> v1.Glossary:
    """A glossary with its entries."""
    request = v1.GetGlossaryRequest(
        name=glossary.name, source_language=glossary.source_language, target_language=glossary.target_language
    )
    return await glossaries.GetGlossary(request, call)


async def change(glossaries: Glossaries, glossary: v1.Glossary, make: Change, call: Any) -> v1.Glossary:
    """Change a glossary as it is at this moment: again if somebody else has changed it in between."""
    for attempt in range(_ATTEMPTS):
        request, fields = make(await whole(glossaries, glossary, call))
        try:
            with renamed_fields(fields):
                return await glossaries.UpdateGlossary(request, call)
        except Conflict:
            if attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


async def delete(glossaries: Glossaries, glossary: v1.Glossary, call: Any) -> None:
    """Delete a glossary."""
    request = v1.DeleteGlossaryRequest(
        name=glossary.name, source_language=glossary.source_language, target_language=glossary.target_language
    )
    await glossaries.DeleteGlossary(request, call)
