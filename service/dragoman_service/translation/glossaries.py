"""Named glossaries: a folder of files NAME.SOURCE-TARGET.tsv, such as `bank.en-de.tsv`, with a term on each line."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from dragoman_service.bundle.manifest import NAME
from dragoman_service.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound, RepositoryError, visible
from dragoman_service.text.terms import Glossary, Term, in_any_case
from dragoman_service.translation.glossary_files import GlossaryId, GlossaryText, id_of, mark_of, read_glossary

MAX_GLOSSARIES = 1_000
"""Most glossaries of a folder to which calls add some."""
_SUFFIX = ".tsv"
_MOST_SHOWN = 50

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Loaded:
    """A file as it was read."""

    mark: tuple[int, ...]
    """Changes when the file does."""
    terms: tuple[Term, ...]
    glossary: Glossary
    any_case: Glossary | None = None
    """With terms that match in any case; made when it is first asked for."""

    def matching(self, *, any_case: bool) -> Glossary:
        """The glossary, as it is or with terms that match in any case."""
        if not any_case:
            return self.glossary
        if self.any_case is None:
            self.any_case = in_any_case(self.terms)
        return self.any_case


class GlossaryFolder:
    """The glossaries of a folder. A file that has changed is read again when a call next names it.

    Any thread may call the methods. They read and write files.
    """

    def __init__(self, folder: Path | None, *, writable: bool = False) -> None:
        """`folder`: None has no glossaries. `writable`: whether calls may change them."""
        self._folder = folder
        self._writable = writable
        self._loaded: dict[str, _Loaded] = {}
        self._lock = Lock()
        self._listed: dict[str, tuple[tuple[int, ...], int, GlossaryText]] = {}
        self._list_lock = Lock()

    def names(self) -> list[tuple[str, str]]:
        """Names, and "SOURCE-TARGET" of each."""
        if self._folder is None:
            return []
        stems = sorted(path.name.removesuffix(_SUFFIX) for path in self._folder.glob(f"*{_SUFFIX}"))
        named = [(name, languages) for name, _, languages in (stem.rpartition(".") for stem in stems)]
        return [(name, languages) for name, languages in named if NAME.fullmatch(name)]

    def find(self, name: str, source_language: str, target_language: str, *, ignore_case: bool = False) -> Glossary:
        """The glossary of a name for two languages.

        If a file has become invalid, the glossary is what it was before, and the log has the problem.

        Args:
            name: Of the glossary.
            source_language: As the model spells it, like `target_language`.
            target_language: See there.
            ignore_case: Whether all of its terms match in any case.

        Raises:
            NotFound: there is none.
            InvalidInput: its file has never been valid. The message has the file and the line.
        """
        glossary = GlossaryId(name, source_language, target_language)
        file = glossary.file
        with self._lock:
            path = self._path(glossary)
            try:
                mark = mark_of(path.stat())
            except OSError:
                raise self._unknown(glossary) from None
            loaded = self._loaded.get(file)
            if loaded is None or loaded.mark != mark:
                try:
                    entries = read_glossary(path, file).entries
                    loaded = _Loaded(mark, entries, Glossary(entries))
                except InvalidInput as error:
                    if loaded is None:
                        raise InvalidInput("glossary", name, f"a glossary without errors; {error}") from None
                    _log.warning("glossary not reloaded: %s", error)
                    loaded.mark = mark
                self._loaded[file] = loaded
            return loaded.matching(any_case=ignore_case)

    def listing(self) -> list[tuple[GlossaryId, int, GlossaryText]]:
        """All glossaries whose files have no errors, with the number of entries of each, but without the entries."""
        found = []
        with self._list_lock:
            for name, pair in self.names():
                if (glossary := id_of(f"{name}.{pair}{_SUFFIX}")) is not None:
                    with suppress(NotFound, InvalidInput):
                        found.append((glossary, *self._summary(glossary)))
            self._listed = {it.file: self._listed[it.file] for it, _, _ in found}
        return found

    def _summary(self, glossary: GlossaryId) -> tuple[int, GlossaryText]:
        path = self._path(glossary)
        try:
            mark = mark_of(path.stat())
        except OSError:
            raise self._unknown(glossary) from None
        if self._listed.get(glossary.file, ((),))[0] != mark:
            try:
                text = read_glossary(path, glossary.file)
            except InvalidInput as error:
                _log.info("glossary not listed: %s", error)
                raise
            self._listed[glossary.file] = mark, len(text.entries), replace(text, entries=())
        return self._listed[glossary.file][1:]

    def get(self, glossary: GlossaryId) -> GlossaryText:
        """The content of a glossary.

        Raises:
            NotFound: there is none.
            InvalidInput: its file has errors. The message has the file and the line.
        """
        path = self._path(glossary)
        if not path.is_file():
            raise self._unknown(glossary)
        try:
            return read_glossary(path, glossary.file)
        except InvalidInput as error:
            raise InvalidInput("name", glossary.name, f"a glossary without errors; {error}") from None

    def create(self, glossary: GlossaryId, text: GlossaryText) -> GlossaryText:
        """Make a glossary. Returns it as it is then.

        Raises:
            Forbidden: calls may not change glossaries.
            InvalidInput: a glossary cannot be called so, or cannot have this text.
            AlreadyExists: there is one of this name and these languages.
            Conflict: there are too many glossaries.
            RepositoryError: the file cannot be written.
        """
        data = text.encoded()
        with self._changing() as folder:
            if not glossary.is_possible:
                allowed = "a letter or digit, then letters, digits and . _ -, at most 100 characters"
                raise InvalidInput("glossary.name", glossary.name, allowed)
            path = folder / glossary.file
            if os.path.lexists(path):
                raise AlreadyExists(f"glossary {glossary.name!r}: there is one for {glossary.pair} already")
            if len(self.names()) >= MAX_GLOSSARIES:
                raise Conflict(f"there are {MAX_GLOSSARIES} glossaries, as many as there may be; delete one first")
            _write(path, data)
        return self.get(glossary)

    def replace(self, glossary: GlossaryId, text: GlossaryText, revision: str) -> GlossaryText:
        """Replace the content of a glossary, if it is still the one of `revision`, unless that is empty.

        Returns it as it is then. Raises NotFound, Conflict if it has changed, and as `create`.
        """
        data = text.encoded()
        with self._changing():
            there = self.get(glossary)
            if revision not in ("", there.revision):
                raise Conflict(
                    f"glossary {glossary.name!r} has changed since revision {visible(revision)!r}: read it anew"
                )
            _write(self._path(glossary), data)
        return self.get(glossary)

    def delete(self, glossary: GlossaryId) -> None:
        """Delete a glossary. Raises Forbidden, NotFound and RepositoryError as `create`."""
        with self._changing():
            path = self._path(glossary)
            try:
                path.unlink()
            except FileNotFoundError:
                raise self._unknown(glossary) from None

    def _path(self, glossary: GlossaryId) -> Path:
        """Where the file of a glossary would be. Raises NotFound if there can be none."""
        if self._folder is None or not glossary.is_possible:
            raise self._unknown(glossary)
        return self._folder / glossary.file

    @contextmanager
    def _changing(self) -> Iterator[Path]:
        """Hold the lock of the folder, which all processes respect. Raises Forbidden and RepositoryError."""
        if self._folder is None or not self._writable:
            raise Forbidden("this server's glossaries cannot be changed by calls: that needs --glossaries-writable")
        try:
            descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield self._folder
                os.fsync(descriptor)  # else a power cut may undo the change
            finally:
                os.close(descriptor)
        except OSError as error:
            raise RepositoryError(f"the folder of glossaries cannot be changed: {error.strerror}") from None

    def _unknown(self, glossary: GlossaryId) -> NotFound:
        there = [other for other, pair in self.names() if pair == glossary.pair][:_MOST_SHOWN]
        shown = ", ".join(there) or "none"
        return NotFound(f"glossary {visible(glossary.name)!r}: there is none for {glossary.pair}; there are: {shown}")


def _write(path: Path, data: bytes) -> None:
    """Write a file beside its place and rename it, so that readers see the whole of it or nothing."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o644)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(partial, path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
