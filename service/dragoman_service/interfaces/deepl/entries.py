"""Entries of DeepL's glossaries, which are written as TSV or CSV: from and to terms of `dragoman.v1`."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from dragoman_protos.v1.translation_pb2 import Term
from dragoman_service.errors import InvalidInput
from dragoman_service.interfaces.values import text_of

_FIELD, _FORMAT = "entries", "entries_format"
_WITH_LANGUAGES = 4
"""Columns of CSV, if it repeats the languages."""


def terms_of(fields: Mapping[str, Any]) -> list[Term]:
    """The terms of the fields `entries` and `entries_format`. Raises InvalidInput."""
    text, written_in = text_of(fields, _FIELD), text_of(fields, _FORMAT)
    if written_in == "tsv":
        pairs = list(_tsv(text))
    elif written_in == "csv":
        pairs = list(_csv(text))
    else:
        raise InvalidInput(_FORMAT, written_in, "tsv or csv")
    if not pairs:
        raise InvalidInput(_FIELD, text, "at least one entry")
    return _with_case([Term(source=source.strip(), target=target.strip()) for source, target in pairs])


def merged(old: Iterable[Term], new: Sequence[Term]) -> list[Term]:
    """Old terms, of which new ones with the same source take the places, and the other new ones."""
    renewed = {term.source: term for term in new}
    kept = [renewed.pop(term.source, term) for term in old]
    return _with_case([*kept, *renewed.values()])


def tsv_of(terms: Iterable[Term]) -> str:
    """Entries as TSV."""
    return "\n".join(f"{term.source}\t{term.target}" for term in terms)


def _with_case(terms: Sequence[Term]) -> list[Term]:
    """Terms that match in any case, but for those whose sources differ in case alone."""
    count = Counter(term.source.casefold() for term in terms)
    return [
        Term(
            source=it.source,
            target=it.target,
            case_sensitive=it.case_sensitive or count[it.source.casefold()] > 1,
        )
        for it in terms
    ]


def _tsv(text: str) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        columns = line.split("\t")
        if len(columns) == 2:
            yield columns[0], columns[1]
        elif line:
            raise InvalidInput(_FIELD, line, f"a source, a tab and a target; line {number} is not")


def _csv(text: str) -> Iterator[tuple[str, str]]:
    rows = csv.reader(io.StringIO(text), strict=True)
    try:
        for columns in rows:
            if len(columns) in (2, _WITH_LANGUAGES):
                yield columns[0], columns[1]
            elif columns:
                got, allowed = ",".join(columns), f"a source and a target; line {rows.line_num} is not"
                raise InvalidInput(_FIELD, got, allowed)
    except csv.Error as error:
        raise InvalidInput(_FIELD, f"{error} in line {rows.line_num}", "CSV (RFC 4180)") from None
