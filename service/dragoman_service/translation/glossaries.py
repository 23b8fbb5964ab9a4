"""Named glossaries: a folder of files NAME.SOURCE-TARGET.tsv, such as `bank.en-de.tsv`, with a term on each line."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from dragoman_service.bundle.manifest import NAME
from dragoman_service.errors import InvalidInput, NotFound, visible
from dragoman_service.text.terms import Glossary, read_terms

MAX_BYTES = 4 * 2**20
"""Largest file of a glossary."""
_SUFFIX = ".tsv"
_MOST_SHOWN = 50

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A file as it was read."""

    mark: tuple[int, ...]
    """Changes when the file does."""
    glossary: Glossary


class GlossaryFolder:
    """The glossaries of a folder. A file that has changed is read again when a call next names it.

    Any thread may call the methods. They read files.
    """

    def __init__(self, folder: Path | None) -> None:
        """`folder`: None has no glossaries."""
        self._folder = folder
        self._loaded: dict[str, _Loaded] = {}
        self._lock = Lock()

    def names(self) -> list[tuple[str, str]]:
        """Names, and "SOURCE-TARGET" of each."""
        if self._folder is None:
            return []
        stems = sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))
        named = [(name, languages) for name, _, languages in (stem.rpartition(".") for stem in stems)]
        return [(name, languages) for name, languages in named if NAME.fullmatch(name)]

    def find(self, name: str, source_language: str, target_language: str) -> Glossary:
        """The glossary of a name for two languages.

        If a file has become invalid, the glossary is what it was before, and the log has the problem.

        Raises:
            NotFound: there is none.
            InvalidInput: its file has never been valid. The message has the file and the line.
        """
        languages = f"{source_language}-{target_language}"
        file = f"{name}.{languages}{_SUFFIX}"
        with self._lock:
            if self._folder is None or not NAME.fullmatch(name):
                raise self._unknown(name, languages)
            try:
                status = (self._folder / file).stat()
            except OSError:
                raise self._unknown(name, languages) from None
            mark = (status.st_mtime_ns, status.st_size, status.st_ino)
            loaded = self._loaded.get(file)
            if loaded is not None and loaded.mark == mark:
                return loaded.glossary
            try:
                glossary = _read(self._folder / file, file)
            except InvalidInput as error:
                if loaded is None:
                    raise InvalidInput("glossary", name, f"a glossary without errors; {error}") from None
                _log.warning("glossary not reloaded: %s", error)
                glossary = loaded.glossary
            self._loaded[file] = _Loaded(mark, glossary)
            return glossary

    def _unknown(self, name: str, languages: str) -> NotFound:
        there = [other for other, pair in self.names() if pair == languages][:_MOST_SHOWN]
        shown = ", ".join(there) or "none"
        return NotFound(f"glossary {visible(name)!r}: there is none for {languages}; there are: {shown}")


def _read(path: Path, name: str) -> Glossary:
    """Read a file. Raises InvalidInput."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise InvalidInput(name, f"more than {MAX_BYTES} bytes", f"at most {MAX_BYTES} bytes")
        return Glossary(read_terms(data.decode("utf-8-sig"), name))
    except OSError as error:
        raise InvalidInput(name, error.strerror, "a readable file") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(name, f"byte {error.start + 1} of it", "UTF-8") from None
