"""The ZIP archive of a document: what is in it, within bounds, and the archive with other parts."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass

from dragoman_service.text.markup.units import FileError
from dragoman_service.text.markup.xml import check_encoding, check_xml

_CHUNK = 1024 * 1024
_SMALL = 1024 * 1024
"""Bytes of an entry of which no ratio is too high."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_ENTRY = b"PK\x01\x02"
"""Begins each entry of the directory of an archive."""
_IS_ENCRYPTED = 1
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}


@dataclass(frozen=True, slots=True)
class ArchiveBounds:
    """What an archive may have at most. A small file can say that it has any amount of data."""

    entries: int = 10_000
    total_bytes: int = 512 * 1024 * 1024
    """Of all entries, inflated."""
    text_bytes: int = 48 * 1024 * 1024
    """Of the parts that are translated, inflated."""
    ratio: int = 200
    """Bytes of an entry, inflated, for each byte in the archive, unless the entry has less than 1 MiB."""


DEFAULT_BOUNDS = ArchiveBounds()


class Archive:
    """The entries of an archive."""

    def __init__(self, data: bytes, bounds: ArchiveBounds) -> None:
        """Read all entries once. Raises FileError if they are not whole, not allowed, or more than the bounds."""
        if data.startswith(_OLE):
            raise FileError(
                "got a document of Word 97 to 2003 (.doc), or one with a password; allowed: one without, saved as "
                ".docx or .odt"
            )
        if data.count(_ENTRY) > bounds.entries:  # before the directory is read into memory
            raise FileError(f"got more than {bounds.entries} entries in the archive; allowed: {bounds.entries}")
        self._data = data
        self._bounds = bounds
        with _failures():
            self._zip = zipfile.ZipFile(io.BytesIO(data))
            self.entries = self._zip.infolist()
        self.names = [it.filename for it in self.entries]
        for entry in self.entries:
            _check_entry(entry)
        if len(set(self.names)) != len(self.names):
            ((name, _),) = Counter(self.names).most_common(1)
            raise FileError(f"{name}: got two entries of this name; allowed: one")
        left = bounds.total_bytes
        for entry in self.entries:
            left -= self._inflated_bytes(entry, left)

    def read(self, name: str) -> bytes:
        """An entry. Raises KeyError."""
        return self._zip.read(name)

    def text(self, name: str) -> str:
        """An entry of XML, checked. Raises FileError, KeyError."""
        try:
            text = self.read(name).decode()
        except UnicodeDecodeError as error:
            raise FileError(
                f"{name}: got another encoding than UTF-8 (byte {error.start + 1}); allowed: UTF-8"
            ) from None
        check_encoding(text, f"{name}: ")
        check_xml(text, f"{name}: ")
        return text

    def written(self, changed: Mapping[str, bytes], removed: Collection[str]) -> bytes:
        """The archive with other data for some entries, and without others. All else of the entries stays."""
        target = io.BytesIO()
        with zipfile.ZipFile(target, "w") as new:
            new.comment = self._zip.comment
            for entry in self.entries:
                if entry.filename in removed:
                    continue
                info = copy(entry)
                data = changed.get(entry.filename)
                new.writestr(info, self._zip.read(entry) if data is None else data)
        return target.getvalue()

    def _inflated_bytes(self, entry: zipfile.ZipInfo, left: int) -> int:
        """The size of an entry, of which the headers may say anything."""
        size = 0
        with _failures(entry.filename), self._zip.open(entry) as opened:
            while chunk := opened.read(_CHUNK):
                size += len(chunk)
                if size > left:
                    raise FileError(
                        f"{entry.filename}: got an archive of more than {self._bounds.total_bytes} bytes, inflated; "
                        f"allowed: {self._bounds.total_bytes}"
                    )
                if size > max(_SMALL, entry.compress_size * self._bounds.ratio):
                    raise FileError(
                        f"{entry.filename}: got more than {self._bounds.ratio} bytes for each that is stored; "
                        f"allowed: {self._bounds.ratio}"
                    )
        return size


def _check_entry(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    if name.startswith("/") or "\\" in entry.orig_filename or "\0" in entry.orig_filename or ".." in name.split("/"):
        raise FileError(f"{entry.orig_filename!r}: got a name that leaves the archive; allowed: names of parts")
    if entry.flag_bits & _IS_ENCRYPTED:
        raise FileError(f"{name}: got an encrypted entry; allowed: a document without a password")
    if entry.compress_type not in _METHODS:
        raise FileError(f"{name}: got the compression {entry.compress_type}; allowed: {', '.join(_METHODS.values())}")


@contextmanager
def _failures(name: str = "") -> Iterator[None]:
    where = f"{name}: " if name else ""
    try:
        yield
    except FileError:
        raise
    except (
        zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError,
    ) as error:  # fmt: skip
        raise FileError(f"{where}not a whole ZIP archive: {error or type(error).__name__}") from None
