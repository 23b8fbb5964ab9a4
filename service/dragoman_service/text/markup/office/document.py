"""DOCX and ODT documents: which parts of their archives have text."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from dragoman_service.text.markup.office.archive import Archive, ArchiveBounds
from dragoman_service.text.markup.office.docx import DocxPart
from dragoman_service.text.markup.office.elements import Elements
from dragoman_service.text.markup.office.odt import OdtPart
from dragoman_service.text.markup.office.part import Part
from dragoman_service.text.markup.units import FileError

_CONTENT_TYPES = "[Content_Types].xml"
_WORD = "application/vnd.openxmlformats-officedocument.wordprocessingml."
_MAIN = (f"{_WORD}document.main+xml", f"{_WORD}template.main+xml")
_WITH_TEXT = tuple(f"{_WORD}{kind}+xml" for kind in ("header", "footer", "footnotes", "endnotes", "comments"))
_MACROS = "application/vnd.ms-word."
_RELATIONSHIPS = "_rels/.rels"
_SIGNATURE = re.compile(r'<(?:\w+:)?Relationship\b[^<>]*digital-signature/origin"[^<>]*/>')
_MIME_TYPES = ("application/vnd.oasis.opendocument.text", "application/vnd.oasis.opendocument.text-template")
_MANIFEST = "META-INF/manifest.xml"


@dataclass(slots=True)
class OfficeDocument:
    """The texts of a document in the parts of its archive."""

    texts: list[str] = field(default_factory=list)
    """Of all paragraphs, as HTML."""
    places: list[str] = field(default_factory=list)
    """Where each stands."""
    _parts: list[tuple[str, Part]] = field(default_factory=list)
    _others: dict[str, bytes] = field(default_factory=dict)
    """What is changed besides."""
    _removed: Collection[str] = ()
    _archive: Archive | None = None

    def written(self, translations: Sequence[str | None]) -> bytes:
        """The document with a translation for each text. None: it stays as it is."""
        assert self._archive is not None
        if all(new is None or new == old for new, old in zip(translations, self.texts, strict=True)):
            return self._archive.written({}, ())
        changed, done = dict(self._others), 0
        for name, part in self._parts:
            count = len(part.paragraphs)
            changed[name] = part.written(translations[done : done + count]).encode()
            done += count
        return self._archive.written(changed, self._removed)

    @classmethod
    def of(
        cls,
        archive: Archive,
        names: Sequence[str],
        make: Callable[[str], Part],
        bounds: ArchiveBounds,
        removed: Collection[str] = (),
        others: dict[str, bytes] | None = None,
    ) -> OfficeDocument:
        """Read the parts of these names. Raises FileError."""
        found = cls(_removed=removed, _others=others or {}, _archive=archive)
        left = bounds.text_bytes
        for name in names:
            source = archive.text(name)
            left -= len(source)
            if left < 0:
                raise FileError(
                    f"{name}: got more than {bounds.text_bytes} bytes of text; allowed: {bounds.text_bytes}"
                )
            part = make(source)
            found._parts.append((name, part))
            found.texts += (paragraph.text.html for paragraph in part.paragraphs)
            found.places += (f"{name}, paragraph {paragraph.number}" for paragraph in part.paragraphs)
        return found


def read_docx(data: bytes, bounds: ArchiveBounds) -> OfficeDocument:
    """Read a document. Its signature, which would be wrong then, is left out once it is changed. Raises FileError."""
    archive = Archive(data, bounds)
    if _CONTENT_TYPES not in archive.names:
        raise FileError(f"no DOCX: got an archive without {_CONTENT_TYPES}; allowed: a document of Word")
    types = _content_types(archive.text(_CONTENT_TYPES))
    macros = [name for name, kind in types.items() if kind.startswith(_MACROS) and "main" in kind]
    if macros:
        raise FileError(f"no DOCX: got a document with macros ({types[macros[0]]}); allowed: one saved as .docx")
    main = [name for name, kind in types.items() if kind in _MAIN]
    if len(main) != 1:
        raise FileError(f"no DOCX: got an archive with {len(main)} documents of Word; allowed: one")
    names = [*main, *(name for name, kind in types.items() if kind in _WITH_TEXT)]
    missing = [name for name in names if name not in archive.names]
    if missing:
        raise FileError(f"{missing[0]}: got no such entry, which {_CONTENT_TYPES} names")
    removed = [name for name in archive.names if name.startswith("_xmlsignatures/")]
    others = {}
    if removed and _RELATIONSHIPS in archive.names:
        others[_RELATIONSHIPS] = _SIGNATURE.sub("", archive.text(_RELATIONSHIPS)).encode()
    return OfficeDocument.of(archive, names, DocxPart, bounds, removed, others)


def _content_types(source: str) -> dict[str, str]:
    """The names of the parts, and their content types."""
    elements = Elements(source, {})
    return {
        elements.attribute(number, "PartName").removeprefix("/"): elements.attribute(number, "ContentType")
        for number in range(len(elements.tags))
        if elements.name(number).rpartition(":")[2] == "Override" and not elements.closes(number)
    }


def read_odt(data: bytes, bounds: ArchiveBounds) -> OfficeDocument:
    """Read a document. Its signature, which would be wrong then, is left out once it is changed. Raises FileError."""
    archive = Archive(data, bounds)
    kind = archive.read("mimetype").decode(errors="replace").strip() if "mimetype" in archive.names else "no mimetype"
    if kind not in _MIME_TYPES:
        raise FileError(f"no ODT: got an archive of {kind[:100]!r}; allowed: {', '.join(_MIME_TYPES)}")
    if _MANIFEST in archive.names and "encryption-data" in archive.text(_MANIFEST):
        raise FileError("got a document with a password; allowed: one without")
    names = [name for name in ("content.xml", "styles.xml") if name in archive.names]
    if "content.xml" not in names:
        raise FileError("no ODT: got an archive without content.xml; allowed: a document of OpenDocument")
    removed = [name for name in archive.names if name == "META-INF/documentsignatures.xml"]
    return OfficeDocument.of(archive, names, OdtPart, bounds, removed)
