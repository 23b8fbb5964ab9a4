"""Files of glossaries: their names, NAME.SOURCE-TARGET.tsv, and their content, a term on each line."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from dragoman_service.bundle.manifest import NAME
from dragoman_service.errors import InvalidInput
from dragoman_service.text.language_tags import canonical, parse_tag
from dragoman_service.text.terms import Glossary, Term, read_terms

MAX_BYTES = 4 * 2**20
"""Largest file of a glossary."""
MAX_ENTRIES = 10_000
"""Most entries of a glossary that a call writes."""
_LONGEST_NAME = 100
_LONGEST_LANGUAGE = 50
"""RFC 5646 asks for 35."""
_LONGEST_DESCRIPTION = 200
_SUFFIX = ".tsv"
_COMMENT = "#"


@dataclass(frozen=True, slots=True)
class GlossaryId:
    """Which glossary."""

    name: str
    source_language: str
    target_language: str

    @property
    def pair(self) -> str:
        """Its languages, as the name of the file has them."""
        return f"{self.source_language}-{self.target_language}"

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"{self.name}.{self.pair}{_SUFFIX}"

    @property
    def is_possible(self) -> bool:
        """Whether a file may be called so: the name and the languages are no paths."""
        languages = (self.source_language, self.target_language)
        return bool(NAME.fullmatch(self.name)) and len(self.name) <= _LONGEST_NAME and all(map(_is_language, languages))


@dataclass(frozen=True, slots=True)
class GlossaryText:
    """What a file has."""

    entries: tuple[Term, ...]
    description: str = ""
    """The comment in its first line, if there is one."""
    changed: int = 0
    """When it was written, in nanoseconds since 1970."""
    revision: str = ""
    """A hash of its bytes."""

    def encoded(self) -> bytes:
        """The bytes of the file. Raises InvalidInput for what a file cannot have."""
        _check_description(self.description)
        if len(self.entries) > MAX_ENTRIES:
            raise InvalidInput("glossary.entries", f"{len(self.entries)} of them", f"at most {MAX_ENTRIES}")
        Glossary(self.entries, "glossary.entries[{}]".format)
        for index, entry in enumerate(self.entries):
            if entry.source.startswith(_COMMENT):
                allowed = "a phrase that does not begin with '#', which is a comment"
                raise InvalidInput(f"glossary.entries[{index}].source", entry.source, allowed)
        lines = [f"{_COMMENT} {self.description}"] if self.description else []
        lines += (f"{it.source}\t{it.target}" + "\tcase" * it.case_sensitive for it in self.entries)
        data = "".join(f"{line}\n" for line in lines).encode()
        if len(data) > MAX_BYTES:
            raise InvalidInput("glossary.entries", f"{len(data)} bytes", f"at most {MAX_BYTES} bytes in all")
        return data


def id_of(file: str) -> GlossaryId | None:
    """The glossary of a file; None if it is called otherwise.

    Tags of languages may have hyphens too: the file is cut where both tags are spelled as they should be, if possible.
    """
    name, _, pair = file.removesuffix(_SUFFIX).rpartition(".")
    parts = pair.split("-")
    cuts = [("-".join(parts[:cut]), "-".join(parts[cut:])) for cut in range(1, len(parts))]
    known = [cut for cut in cuts if all(map(parse_tag, cut))] or cuts
    if not file.endswith(_SUFFIX) or not known:
        return None
    found = GlossaryId(name, *next((cut for cut in known if tuple(map(canonical, cut)) == cut), known[0]))
    return found if found.is_possible else None


def mark_of(status: os.stat_result) -> tuple[int, ...]:
    """Changes when the file does."""
    return status.st_mtime_ns, status.st_size, status.st_ino


def read_glossary(path: Path, name: str) -> GlossaryText:
    """Read a file, which errors call `name`. Raises InvalidInput."""
    try:
        # A pipe without a writer would block for good.
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise InvalidInput(name, "something else", "a regular file")
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InvalidInput(name, f"more than {MAX_BYTES} bytes", f"at most {MAX_BYTES} bytes")
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise InvalidInput(name, error.strerror, "a readable file") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(name, f"byte {error.start + 1} of it", "UTF-8") from None
    first = text.partition("\n")[0]
    description = first.removeprefix(_COMMENT).strip() if first.startswith(_COMMENT) else ""
    revision = hashlib.sha256(data).hexdigest()[:32]
    return GlossaryText(tuple(read_terms(text, name)), description, status.st_mtime_ns, revision)


def _is_language(tag: str) -> bool:
    return 0 < len(tag) <= _LONGEST_LANGUAGE and tag.replace("-", "").replace("_", "").isalnum() and tag.isascii()


def _check_description(text: str) -> None:
    if len(text) > _LONGEST_DESCRIPTION or not text.isprintable() or text != text.strip():
        allowed = f"at most {_LONGEST_DESCRIPTION} printable characters, no spaces around them"
        raise InvalidInput("glossary.description", text, allowed)
