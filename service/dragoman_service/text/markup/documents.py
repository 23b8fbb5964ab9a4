"""Files of every format as documents: texts that are translated, and the way back.

Begin with `open_document`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath

from dragoman_service.text.markup.files import FileFormat, units_of, written
from dragoman_service.text.markup.formats import TextFormat
from dragoman_service.text.markup.office.archive import DEFAULT_BOUNDS, ArchiveBounds
from dragoman_service.text.markup.office.document import read_docx, read_odt
from dragoman_service.text.markup.units import FileError

_BY_SUFFIX = {
    ".txt": FileFormat.TEXT,
    ".html": FileFormat.HTML,
    ".htm": FileFormat.HTML,
    ".xhtml": FileFormat.HTML,
    ".md": FileFormat.MARKDOWN,
    ".markdown": FileFormat.MARKDOWN,
    ".srt": FileFormat.SRT,
    ".vtt": FileFormat.VTT,
    ".json": FileFormat.JSON,
    ".po": FileFormat.PO,
    ".pot": FileFormat.PO,
    ".xliff": FileFormat.XLIFF,
    ".xlf": FileFormat.XLIFF,
    ".docx": FileFormat.DOCX,
    ".odt": FileFormat.ODT,
}
SUFFIXES = tuple(_BY_SUFFIX)
"""The suffixes of the names of files that are documents."""


@dataclass(frozen=True, slots=True)
class OpenDocument:
    """A file, and what of it is translated."""

    texts: Sequence[str]
    """In the order of the file."""
    format: TextFormat
    """Of each text."""
    places: Sequence[str]
    """Of each text, for messages: the number of its line, or `paragraph 3`."""
    write: Callable[[Sequence[str | None]], bytes]

    def written(self, translations: Sequence[str | None]) -> bytes:
        """The file with a translation for each text. None: it stays as it is. Raises ValueError for another number."""
        if len(translations) != len(self.texts):
            raise ValueError(f"got {len(translations)} translations; allowed: {len(self.texts)}")
        return self.write(translations)


def format_of_name(name: str) -> FileFormat | None:
    """The format of a file by the suffix of its name, in any case. None: none of `SUFFIXES`."""
    return _BY_SUFFIX.get(PurePath(name).suffix.lower())


def open_document(data: bytes, file_format: FileFormat, bounds: ArchiveBounds = DEFAULT_BOUNDS) -> OpenDocument:
    """Find the texts of a file. Raises FileError, whose message says where and what is wrong.

    Args:
        data: The whole file.
        file_format: Its format.
        bounds: Of archives, which DOCX and ODT are.
    """
    if file_format not in (FileFormat.DOCX, FileFormat.ODT):
        return _text_file(data, file_format)
    found = (read_docx if file_format is FileFormat.DOCX else read_odt)(data, bounds)
    return OpenDocument(found.texts, file_format.of_texts, found.places, found.written)


def _text_file(data: bytes, file_format: FileFormat) -> OpenDocument:
    try:
        source = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(f"line {line}: got the byte 0x{data[error.start]:02x}; allowed: UTF-8") from None
    units = units_of(source, file_format)
    places: list[str] = []
    line, done = 1, 0
    for unit in units:
        line, done = line + source.count("\n", done, unit.start), unit.start
        places.append(str(line))
    return OpenDocument(
        [unit.text for unit in units],
        file_format.of_texts,
        places,
        lambda translations: written(source, units, translations).encode(errors="surrogatepass"),
    )
