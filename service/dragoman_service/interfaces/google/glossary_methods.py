"""The methods for glossaries: each reads or changes a glossary of `dragoman.v1`."""

from __future__ import annotations

from typing import Any

from google.longrunning import operations_pb2
from google.protobuf.empty_pb2 import Empty
from google.protobuf.timestamp_pb2 import Timestamp

from dragoman_protos.google import translation_v3_pb2 as pb
from dragoman_protos.v1 import glossaries_pb2 as v1
from dragoman_service.errors import InvalidInput
from dragoman_service.interfaces import backend, glossaries
from dragoman_service.interfaces.glossaries import Change, Changed, find, glossary_id
from dragoman_service.interfaces.google import operations
from dragoman_service.interfaces.google.common import errors_of
from dragoman_service.interfaces.google.glossaries import (
    FIELDS,
    changed_glossary,
    entry_fields,
    entry_message,
    find_entry,
    glossary_message,
    new_glossary,
    new_term,
    page_of,
    with_entry,
    without_entry,
)
from dragoman_service.interfaces.google.names import Resource, check_parent, entry_resource, resource

_MOST_GLOSSARIES = 1_000
_MOST_ENTRIES = 1_000
"""Of a page."""
_PAIR = "glossary.language_pair"


class GlossaryMethods:
    """A part of the servicer."""

    def __init__(self, glossaries: backend.Glossaries) -> None:
        self._glossaries = glossaries

    async def ListGlossaries(self, request: pb.ListGlossariesRequest, call: Any) -> pb.ListGlossariesResponse:  # noqa: N802
        parent = check_parent("parent", request.parent)
        if request.filter:
            raise InvalidInput("filter", request.filter, "none: glossaries are not filtered")
        everything = await self._all(call)
        page, token = page_of(everything, request.page_size, request.page_token, _MOST_GLOSSARIES)
        named = [glossary_message(f"{parent}/glossaries/{glossary_id(it, everything)}", it) for it in page]
        return pb.ListGlossariesResponse(glossaries=named, next_page_token=token)

    async def GetGlossary(self, request: pb.GetGlossaryRequest, call: Any) -> pb.Glossary:  # noqa: N802
        wanted = resource("name", request.name, "glossaries")
        return glossary_message(request.name, find(wanted.id, await self._all(call)))

    async def CreateGlossary(self, request: pb.CreateGlossaryRequest, call: Any) -> operations_pb2.Operation:  # noqa: N802
        asked = new_glossary(request, await self._all(call))
        with errors_of(FIELDS, _PAIR):
            created = await self._glossaries.CreateGlossary(asked, call)
        return operations.made(operations.CREATE, glossary_message(request.glossary.name, created))

    async def UpdateGlossary(self, request: pb.UpdateGlossaryRequest, call: Any) -> operations_pb2.Operation:  # noqa: N802
        wanted = resource("glossary.name", request.glossary.name, "glossaries")
        changed = await self._change(wanted, lambda glossary: (changed_glossary(request, glossary), FIELDS), call)
        return operations.made(operations.UPDATE, glossary_message(request.glossary.name, changed))

    async def DeleteGlossary(self, request: pb.DeleteGlossaryRequest, call: Any) -> operations_pb2.Operation:  # noqa: N802
        wanted = resource("name", request.name, "glossaries")
        found = find(wanted.id, await self._all(call))
        await glossaries.delete(self._glossaries, found, call)
        now = Timestamp()
        now.GetCurrentTime()
        return operations.deleted(request.name, now)

    async def ListGlossaryEntries(  # noqa: N802
        self, request: pb.ListGlossaryEntriesRequest, call: Any
    ) -> pb.ListGlossaryEntriesResponse:
        glossary = await self._whole(resource("parent", request.parent, "glossaries"), call)
        page, token = page_of(glossary.entries, request.page_size, request.page_token, _MOST_ENTRIES)
        entries = [entry_message(request.parent, glossary, term) for term in page]
        return pb.ListGlossaryEntriesResponse(glossary_entries=entries, next_page_token=token)

    async def GetGlossaryEntry(self, request: pb.GetGlossaryEntryRequest, call: Any) -> pb.GlossaryEntry:  # noqa: N802
        wanted, entry = entry_resource("name", request.name)
        glossary = await self._whole(wanted, call)
        return entry_message(_name(wanted), glossary, glossary.entries[find_entry(entry, glossary)])

    async def CreateGlossaryEntry(self, request: pb.CreateGlossaryEntryRequest, call: Any) -> pb.GlossaryEntry:  # noqa: N802
        wanted = resource("parent", request.parent, "glossaries")

        def change(glossary: v1.Glossary) -> Changed:
            changed = with_entry(glossary, new_term(request.glossary_entry, glossary))
            return changed, entry_fields(len(glossary.entries))

        changed = await self._change(wanted, change, call)
        return entry_message(request.parent, changed, new_term(request.glossary_entry, changed))

    async def UpdateGlossaryEntry(self, request: pb.UpdateGlossaryEntryRequest, call: Any) -> pb.GlossaryEntry:  # noqa: N802
        wanted, entry = entry_resource("glossary_entry.name", request.glossary_entry.name)

        def change(glossary: v1.Glossary) -> Changed:
            index = find_entry(entry, glossary)
            changed = with_entry(glossary, new_term(request.glossary_entry, glossary), index)
            return changed, entry_fields(index)

        changed = await self._change(wanted, change, call)
        return entry_message(_name(wanted), changed, new_term(request.glossary_entry, changed))

    async def DeleteGlossaryEntry(self, request: pb.DeleteGlossaryEntryRequest, call: Any) -> Empty:  # noqa: N802
        wanted, entry = entry_resource("name", request.name)
        await self._change(wanted, lambda it: (without_entry(it, find_entry(entry, it)), {}), call)
        return Empty()

    async def _all(self, call: Any) -> list[v1.Glossary]:
        return await glossaries.all_of(self._glossaries, call)

    async def _whole(self, wanted: Resource, call: Any) -> v1.Glossary:
        """A glossary with its entries."""
        return await glossaries.whole(self._glossaries, find(wanted.id, await self._all(call)), call)

    async def _change(self, wanted: Resource, make: Change, call: Any) -> v1.Glossary:
        return await glossaries.change(self._glossaries, find(wanted.id, await self._all(call)), make, call)


def _name(glossary: Resource) -> str:
    return f"{glossary.parent}/glossaries/{glossary.id}"
