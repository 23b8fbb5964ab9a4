"""The ZIP archive of a document: what is in it, within bounds, and the archive with other parts."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ArchiveBounds:
    """What an archive may have at most. A small file can say that it has any amount of data."""

    entries: int = 10_000
    total_bytes: int = 512 * 1024 * 1024
    """Of all entries, inflated."""
    text_bytes: int = 48 * 1024 * 1024
    """Of the parts that are translated, inflated."""
    ratio: int = 200
    """Bytes of an entry, inflated, for each byte in the archive; entries of less than 1 MiB may have any."""


DEFAULT_BOUNDS = ArchiveBounds()
