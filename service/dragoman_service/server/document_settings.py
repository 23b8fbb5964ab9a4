"""Settings of documents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dragoman_service.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class DocumentSettings:
    """Limits on documents, and where they are kept."""

    document_folder: Path | None = None
    """Folder of the documents; None: a temporary one, which is removed at the end."""
    document_ttl: float = 3_600.0
    """Seconds after which a document is removed, counted from the end of its translation."""
    document_timeout: float = 3_600.0
    """Seconds that the translation of a document may take, with the time that it waits."""
    max_document_mib: int = 16
    """Largest document in MiB, as it is sent and as it is returned."""
    max_documents: int = 64
    """Maximum number of documents that are kept, in all; one client can have half of them."""

    def __post_init__(self) -> None:
        for name in ("document_ttl", "document_timeout"):
            if not 1 <= getattr(self, name) <= 864_000:
                raise InvalidInput(name, getattr(self, name), "1 to 864000 seconds")
        for name, most in (("max_document_mib", 256), ("max_documents", 10_000)):
            if not 1 <= getattr(self, name) <= most:
                raise InvalidInput(name, getattr(self, name), f"1 to {most}")

    @property
    def max_bytes(self) -> int:
        """Largest document in bytes."""
        return self.max_document_mib << 20
