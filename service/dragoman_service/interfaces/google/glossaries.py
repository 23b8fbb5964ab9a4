"""Glossaries and their entries: messages from and to those of `dragoman.v1`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from dragoman_protos.google import translation_v3_pb2 as pb
from dragoman_protos.v1 import glossaries_pb2 as v1
from dragoman_protos.v1.translation_pb2 import Term
from dragoman_service.errors import AlreadyExists, InvalidInput, NotFound, visible
from dragoman_service.interfaces.google.names import check_parent, resource
from dragoman_service.text.language_tags import parse_tag

FIELDS = {
    "glossary.source_language": "glossary.language_pair.source_language_code",
    "glossary.target_language": "glossary.language_pair.target_language_code",
    "glossary.description": "glossary.display_name",
}
"""Field of `v1.CreateGlossaryRequest` and `v1.UpdateGlossaryRequest` -> field of the caller."""
_ENTRY = "glossary_entry.terms_pair"
_UPDATABLE = ("display_name", "displayName")

T = TypeVar("T")


def glossary_message(name: str, glossary: v1.Glossary) -> pb.Glossary:
    """A glossary with its full name."""
    return pb.Glossary(
        name=name,
        language_pair=pb.Glossary.LanguageCodePair(
            source_language_code=glossary.source_language, target_language_code=glossary.target_language
        ),
        entry_count=glossary.entry_count,
        submit_time=glossary.change_time,
        end_time=glossary.change_time,
        display_name=glossary.description,
    )


def new_glossary(request: pb.CreateGlossaryRequest, all_of: Iterable[v1.Glossary]) -> v1.CreateGlossaryRequest:
    """Raises InvalidInput, which names the caller's field, and AlreadyExists."""
    asked = request.glossary
    check_parent("parent", request.parent)
    named = resource("glossary.name", asked.name, "glossaries")
    if named.parent != request.parent:
        raise InvalidInput("glossary.name", asked.name, f"a name that begins with {request.parent}/")
    _check_kind(asked)
    if any(glossary.name == named.id for glossary in all_of):
        raise AlreadyExists(f"glossary {visible(named.id)!r} is there already")
    return v1.CreateGlossaryRequest(
        glossary=v1.Glossary(
            name=named.id,
            source_language=asked.language_pair.source_language_code,
            target_language=asked.language_pair.target_language_code,
            description=asked.display_name,
        )
    )


def _check_kind(asked: pb.Glossary) -> None:
    if asked.HasField("language_codes_set"):
        allowed = "none: a glossary is for one pair of languages, `language_pair`"
        raise InvalidInput("glossary.language_codes_set", "a set", allowed)
    if asked.HasField("input_config"):
        allowed = "none: make the glossary without it, then its entries one by one, or give the server a file"
        raise InvalidInput("glossary.input_config", "a source", allowed)


def changed_glossary(request: pb.UpdateGlossaryRequest, glossary: v1.Glossary) -> v1.UpdateGlossaryRequest:
    """The glossary with another display name, the only thing that can be changed so. Raises InvalidInput."""
    for path in request.update_mask.paths:
        if path not in _UPDATABLE:
            raise InvalidInput("update_mask", path, "display_name; entries have methods of their own")
    _check_kind(request.glossary)
    changed = v1.UpdateGlossaryRequest(glossary=glossary)
    changed.glossary.description = request.glossary.display_name
    return changed


def entry_id(term: Term) -> str:
    """The id of an entry: a hash of its source, which no two entries of a glossary share."""
    return hashlib.sha256(f"{term.case_sensitive} {term.source}".encode()).hexdigest()[:16]


def entry_message(glossary_name: str, glossary: v1.Glossary, term: Term) -> pb.GlossaryEntry:
    """An entry with its full name."""
    return pb.GlossaryEntry(
        name=f"{glossary_name}/glossaryEntries/{entry_id(term)}",
        terms_pair=pb.GlossaryEntry.GlossaryTermsPair(
            source_term=pb.GlossaryTerm(language_code=glossary.source_language, text=term.source),
            target_term=pb.GlossaryTerm(language_code=glossary.target_language, text=term.target),
        ),
    )


def find_entry(wanted: str, glossary: v1.Glossary) -> int:
    """The index of the entry with an id. Raises NotFound."""
    for index, term in enumerate(glossary.entries):
        if entry_id(term) == wanted:
            return index
    raise NotFound(f"glossary {glossary.name!r} has no entry {visible(wanted)!r}")


def new_term(entry: pb.GlossaryEntry, glossary: v1.Glossary) -> Term:
    """The term of an entry; as in Google's glossaries, upper and lower case matter. Raises InvalidInput."""
    if entry.HasField("terms_set"):
        raise InvalidInput("glossary_entry.terms_set", "a set", "none: a glossary has pairs of terms, `terms_pair`")
    if entry.description:
        raise InvalidInput("glossary_entry.description", entry.description, "none: entries have no descriptions")
    if not entry.HasField("terms_pair"):
        raise InvalidInput(_ENTRY, "", "a pair of terms")
    pair = entry.terms_pair
    for name, term, language in (
        ("source_term", pair.source_term, glossary.source_language),
        ("target_term", pair.target_term, glossary.target_language),
    ):
        if term.language_code and not _same_language(term.language_code, language):
            field = f"{_ENTRY}.{name}.language_code"
            raise InvalidInput(field, term.language_code, f"{language}, or none")
    return Term(source=pair.source_term.text, target=pair.target_term.text, case_sensitive=True)


def with_entry(glossary: v1.Glossary, term: Term, index: int | None = None) -> v1.UpdateGlossaryRequest:
    """The glossary with one more entry, or with another one at an index. Raises AlreadyExists."""
    others = [entry_id(it) for number, it in enumerate(glossary.entries) if number != index]
    if entry_id(term) in others:
        raise AlreadyExists(f"glossary {glossary.name!r} has an entry for {visible(term.source)!r} already")
    changed = v1.UpdateGlossaryRequest(glossary=glossary)
    if index is None:
        changed.glossary.entries.append(term)
    else:
        changed.glossary.entries[index].CopyFrom(term)
    return changed


def without_entry(glossary: v1.Glossary, index: int) -> v1.UpdateGlossaryRequest:
    """The glossary without an entry."""
    changed = v1.UpdateGlossaryRequest(glossary=glossary)
    del changed.glossary.entries[index]
    return changed


def entry_fields(index: int) -> Mapping[str, str]:
    """Field of `v1.UpdateGlossaryRequest` -> field of the caller, who changes the entry at an index."""
    at = f"glossary.entries[{index}]"
    return {
        f"{at}.source": f"{_ENTRY}.source_term.text",
        f"{at}.target": f"{_ENTRY}.target_term.text",
        "glossary.entries": "glossary_entry",
    }


def page_of(items: Sequence[T], size: int, token: str, most: int) -> tuple[Sequence[T], str]:
    """A page of items, and the token of the next page, which is empty at the end. Raises InvalidInput.

    Args:
        items: All items.
        size: Items of the page; 0 is `most`, and more than `most` are as many.
        token: Of the page; empty for the first one.
        most: Items of the largest page.
    """
    if size < 0:
        raise InvalidInput("page_size", size, "0 or more")
    if token and not (token.isascii() and token.isdecimal() and len(token) <= 9):
        raise InvalidInput("page_token", token, "the next_page_token of a reply")
    start = int(token or 0)
    end = start + min(size or most, most)
    return items[start:end], str(end) if end < len(items) else ""


def _same_language(tag: str, other: str) -> bool:
    parsed, known = parse_tag(tag), parse_tag(other)
    if parsed is None or known is None:
        return tag == other
    return parsed.written_language == known.written_language
