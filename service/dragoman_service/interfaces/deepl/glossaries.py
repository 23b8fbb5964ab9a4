"""DeepL's glossaries, v2 and v3: their fields from and to the messages of `dragoman.v1`.

A glossary of v3 has a *dictionary* for each pair of languages: here, all glossaries of the server with one name, which
is its id. One of v2 has a single pair; its id has the languages too if several have the name. The name for people is
the description of the server's glossary.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC
from typing import Any

from dragoman_protos.v1 import glossaries_pb2 as v1
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import InvalidInput, NotFound, visible
from dragoman_service.interfaces.deepl.entries import merged, terms_of, tsv_of
from dragoman_service.interfaces.glossaries import glossary_id, no_glossary
from dragoman_service.interfaces.offered import Offered
from dragoman_service.interfaces.values import text_of
from dragoman_service.text.language_tags import TagIndex

FIELDS = {
    "glossary.source_language": "source_lang",
    "glossary.target_language": "target_lang",
    "glossary.description": "name",
    "glossary.entries": "entries",
}
"""Field of `v1.CreateGlossaryRequest` and `v1.UpdateGlossaryRequest` -> field of the caller."""
MOST_DICTIONARIES = 100
"""Of a request."""


def new_id() -> str:
    """The name of a new glossary."""
    return str(uuid.uuid4())


def name_of(fields: Mapping[str, Any]) -> str:
    """The name for people. Raises InvalidInput for none."""
    name = text_of(fields, "name").strip()
    if not name:
        raise InvalidInput("name", "", "a name")
    return name


def dictionary_of(fields: Mapping[str, Any], wanted: str, name: str) -> v1.Glossary:
    """A dictionary with its entries for the glossary of an id. Raises InvalidInput."""
    return v1.Glossary(
        name=wanted,
        source_language=language_of(fields, "source_lang"),
        target_language=language_of(fields, "target_lang"),
        description=name,
        entries=terms_of(fields),
    )


def dictionaries_of(fields: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The fields of each dictionary. Raises InvalidInput."""
    given = fields.get("dictionaries", [])
    if not isinstance(given, list) or len(given) > MOST_DICTIONARIES:
        raise InvalidInput("dictionaries", given, f"a list of at most {MOST_DICTIONARIES} dictionaries")
    for index, each in enumerate(given):
        if not isinstance(each, dict):
            raise InvalidInput(f"dictionaries[{index}]", each, "an object of JSON")
    return [{name: it for name, it in each.items() if it is not None} for each in given]


def language_of(fields: Mapping[str, Any], field: str) -> str:
    """A language. Raises InvalidInput for none."""
    language = text_of(fields, field)
    if not language:
        raise InvalidInput(field, "", "a language")
    return language


def replaced(glossary: v1.Glossary, entries: Sequence[pb.Term]) -> v1.UpdateGlossaryRequest:
    """A dictionary with other entries."""
    changed = v1.UpdateGlossaryRequest(glossary=glossary)
    del changed.glossary.entries[:]
    changed.glossary.entries.extend(entries)
    return changed


def extended(glossary: v1.Glossary, entries: Sequence[pb.Term]) -> v1.UpdateGlossaryRequest:
    """A dictionary with more entries; those with the same source are replaced."""
    return replaced(glossary, merged(glossary.entries, entries))


def renamed(glossary: v1.Glossary, name: str) -> v1.UpdateGlossaryRequest:
    """A dictionary with another name for people."""
    changed = v1.UpdateGlossaryRequest(glossary=glossary)
    changed.glossary.description = name
    return changed


def group(wanted: str, all_of: Iterable[v1.Glossary]) -> list[v1.Glossary]:
    """The dictionaries of an id. Raises NotFound."""
    everything = list(all_of)
    found = [glossary for glossary in everything if glossary.name == wanted]
    if not found:
        raise no_glossary(wanted, dict.fromkeys(it.name for it in everything))
    return found


def find_dictionary(dictionaries: Iterable[v1.Glossary], source: str, target: str) -> v1.Glossary | None:
    """The dictionary for two languages, which may lack regions that it has: the nearest. None if there is none."""
    fitting = []
    for each in dictionaries:
        sources = TagIndex([each.source_language]).fits(source)
        targets = TagIndex([each.target_language]).fits(target)
        if sources and targets:
            fitting.append((sources[0][0] + targets[0][0], each.source_language, each.target_language, each))
    return min(fitting, key=lambda it: it[:3])[3] if fitting else None


def no_dictionary(wanted: str, source: str, target: str) -> NotFound:
    """The error for a dictionary that there is not."""
    return NotFound(f"glossary {visible(wanted)!r} has no dictionary from {visible(source)} to {visible(target)}")


def monolingual(glossary: v1.Glossary, all_of: Iterable[v1.Glossary]) -> dict[str, Any]:
    """A glossary of v2."""
    return {
        "glossary_id": glossary_id(glossary, all_of),
        "name": glossary.description or glossary.name,
        "ready": True,
        **_languages(glossary),
        "creation_time": _time(glossary),
        "entry_count": glossary.entry_count,
    }


def multilingual(dictionaries: Sequence[v1.Glossary]) -> dict[str, Any]:
    """A glossary of v3."""
    first = dictionaries[0]
    return {
        "glossary_id": first.name,
        "name": next((it.description for it in dictionaries if it.description), first.name),
        "dictionaries": [dictionary(it) for it in dictionaries],
        "creation_time": min(map(_time, dictionaries)),
    }


def multilinguals(all_of: Iterable[v1.Glossary]) -> list[dict[str, Any]]:
    """All glossaries of v3."""
    groups: dict[str, list[v1.Glossary]] = {}
    for glossary in all_of:
        groups.setdefault(glossary.name, []).append(glossary)
    return [multilingual(each) for each in groups.values()]


def dictionary(glossary: v1.Glossary) -> dict[str, Any]:
    """A dictionary without its entries."""
    return {**_languages(glossary), "entry_count": glossary.entry_count}


def whole_dictionary(glossary: v1.Glossary) -> dict[str, Any]:
    """A dictionary with its entries."""
    return {**_languages(glossary), "entries": tsv_of(glossary.entries), "entries_format": "tsv"}


def language_pairs(models: Sequence[pb.ModelInfo]) -> list[dict[str, str]]:
    """The pairs of languages that may have glossaries: all that models translate."""
    offered = Offered(models)
    pairs = ((source, target) for source, targets in sorted(offered.targets.items()) for target in targets)
    named = ((_language(source), _language(target)) for source, target in pairs)
    return [{"source_lang": source, "target_lang": target} for source, target in dict.fromkeys(named)]


def _languages(glossary: v1.Glossary) -> dict[str, str]:
    languages = glossary.source_language, glossary.target_language
    return dict(zip(("source_lang", "target_lang"), map(_language, languages), strict=True))


def _language(tag: str) -> str:
    """The language of a tag without its region, as DeepL's glossaries have it."""
    return tag.replace("_", "-").partition("-")[0].lower()


def _time(glossary: v1.Glossary) -> str:
    """The time of the last change: that of the creation is not kept."""
    changed = glossary.change_time.ToDatetime(tzinfo=UTC)
    return changed.isoformat(timespec="microseconds").replace("+00:00", "Z")
