"""The methods for DeepL's glossaries: each reads or changes glossaries of `dragoman.v1`, and returns the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from dragoman_protos.v1 import glossaries_pb2 as v1
from dragoman_protos.v1 import translation_pb2 as pb
from dragoman_service.errors import DragomanError, InvalidInput, NoLanguagePair
from dragoman_service.interfaces import glossaries as store
from dragoman_service.interfaces.backend import Backend
from dragoman_service.interfaces.deepl import glossaries as mapping
from dragoman_service.interfaces.deepl.entries import terms_of, tsv_of
from dragoman_service.interfaces.fields import renamed_fields

Fields = Mapping[str, Any]


class GlossaryMethods:
    """The methods of one call."""

    def __init__(self, backend: Backend, call: Any) -> None:
        self._glossaries = backend.glossaries
        self._translation = backend.translation
        self._call = call

    async def language_pairs(self) -> object:
        """The pairs of languages that may have glossaries."""
        models = (await self._translation.ListModels(pb.ListModelsRequest(), self._call)).models
        return {"supported_languages": mapping.language_pairs(models)}

    # v2: glossaries of one pair of languages.

    async def list_v2(self) -> object:
        """All glossaries."""
        everything = await self._all()
        return {"glossaries": [mapping.monolingual(it, everything) for it in everything]}

    async def create_v2(self, fields: Fields) -> object:
        """Make a glossary."""
        made = await self._create(fields, mapping.new_id(), mapping.name_of(fields), mapping.FIELDS)
        return mapping.monolingual(made, [made])

    async def get_v2(self, wanted: str) -> object:
        """A glossary."""
        everything = await self._all()
        return mapping.monolingual(store.find(wanted, everything), everything)

    async def entries_v2(self, wanted: str) -> str:
        """The entries of a glossary, as TSV."""
        return tsv_of((await self._whole(store.find(wanted, await self._all()))).entries)

    async def delete_v2(self, wanted: str) -> None:
        """Delete a glossary."""
        await store.delete(self._glossaries, store.find(wanted, await self._all()), self._call)

    # v3: glossaries of several dictionaries.

    async def list_v3(self) -> object:
        """All glossaries."""
        return {"glossaries": mapping.multilinguals(await self._all())}

    async def create_v3(self, fields: Fields) -> object:
        """Make a glossary: all of its dictionaries or none."""
        name, wanted = mapping.name_of(fields), mapping.new_id()
        given = mapping.dictionaries_of(fields)
        if not given:
            raise InvalidInput("dictionaries", "none", "at least one")
        made: list[v1.Glossary] = []
        try:
            for index, each in enumerate(given):
                with renamed_fields(_fields_in(index)):
                    made.append(await self._create(each, wanted, name, {}))
        except BaseException:
            for done in made:
                with suppress(DragomanError):
                    await store.delete(self._glossaries, done, self._call)
            raise
        return mapping.multilingual(made)

    async def get_v3(self, wanted: str) -> object:
        """A glossary."""
        return mapping.multilingual(await self._group(wanted))

    async def update_v3(self, wanted: str, fields: Fields) -> object:
        """Give a glossary another name, and more entries to its dictionaries."""
        dictionaries = await self._group(wanted)
        given = mapping.dictionaries_of(fields)
        if "name" in fields:
            name = mapping.name_of(fields)
            for each in dictionaries:
                await store.change(
                    self._glossaries, each, lambda it: (mapping.renamed(it, name), mapping.FIELDS), self._call
                )
        for index, its in enumerate(given):
            with renamed_fields(_fields_in(index)):
                await self._put(wanted, dictionaries, its, extend=True)
        return await self.get_v3(wanted)

    async def delete_v3(self, wanted: str) -> None:
        """Delete a glossary with all of its dictionaries."""
        for each in await self._group(wanted):
            await store.delete(self._glossaries, each, self._call)

    async def entries_v3(self, wanted: str, fields: Fields) -> object:
        """A dictionary with its entries."""
        found = await self._whole(await self._dictionary(wanted, fields))
        return {"dictionaries": [mapping.whole_dictionary(found)]}

    async def replace_dictionary(self, wanted: str, fields: Fields) -> object:
        """Replace the entries of a dictionary, or make it."""
        with renamed_fields(mapping.FIELDS):
            return mapping.dictionary(await self._put(wanted, await self._group(wanted), fields, extend=False))

    async def delete_dictionary(self, wanted: str, fields: Fields) -> None:
        """Delete a dictionary."""
        await store.delete(self._glossaries, await self._dictionary(wanted, fields), self._call)

    async def _put(
        self, wanted: str, dictionaries: Sequence[v1.Glossary], fields: Fields, *, extend: bool
    ) -> v1.Glossary:
        """Change the entries of a dictionary, or make it. Errors name fields of `dragoman.v1` or of `fields`."""
        source, target = mapping.language_of(fields, "source_lang"), mapping.language_of(fields, "target_lang")
        found = mapping.find_dictionary(dictionaries, source, target)
        if found is None:
            return await self._create(fields, wanted, dictionaries[0].description, {})
        entries = terms_of(fields)
        change = mapping.extended if extend else mapping.replaced
        return await store.change(self._glossaries, found, lambda it: (change(it, entries), {}), self._call)

    async def _create(self, fields: Fields, wanted: str, name: str, names: Mapping[str, str]) -> v1.Glossary:
        request = v1.CreateGlossaryRequest(glossary=mapping.dictionary_of(fields, wanted, name))
        try:
            with renamed_fields(names):
                return await self._glossaries.CreateGlossary(request, self._call)
        except NoLanguagePair as error:
            raise InvalidInput.because_of("target_lang", error) from None

    async def _all(self) -> list[v1.Glossary]:
        return await store.all_of(self._glossaries, self._call)

    async def _whole(self, glossary: v1.Glossary) -> v1.Glossary:
        return await store.whole(self._glossaries, glossary, self._call)

    async def _group(self, wanted: str) -> list[v1.Glossary]:
        return mapping.group(wanted, await self._all())

    async def _dictionary(self, wanted: str, fields: Fields) -> v1.Glossary:
        source, target = mapping.language_of(fields, "source_lang"), mapping.language_of(fields, "target_lang")
        found = mapping.find_dictionary(await self._group(wanted), source, target)
        if found is None:
            raise mapping.no_dictionary(wanted, source, target)
        return found


def _fields_in(index: int) -> Mapping[str, str]:
    """Names of the fields of a dictionary in a list of dictionaries, whatever they are called inside."""
    at = f"dictionaries[{index}]"
    own = {name: f"{at}.{name}" for name in ("source_lang", "target_lang", "entries", "entries_format")}
    return (
        own
        | {name: f"{at}.{its}" for name, its in mapping.FIELDS.items() if its != "name"}
        | {"glossary.description": "name"}
    )
