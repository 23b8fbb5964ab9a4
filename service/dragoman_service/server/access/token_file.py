"""The file of tokens: JSON, read and checked as a whole, and replaced as a whole."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dragoman_service.errors import DragomanError, InvalidInput
from dragoman_service.server.access.tokens import Token, from_json, redacted, to_json

FORMAT_VERSION = 1
LARGEST_FILE = 64 * 2**20
"""Bytes; room for a hundred thousand tokens. A larger file is not read."""


class TokenFileError(DragomanError):
    """A file of tokens that cannot be read, written or understood. The message has its path, entry and field.

    It never has a token or the hash of one.
    """

    reason = "token_file"


def read(path: Path) -> bytes:
    """The bytes of the file. Raises TokenFileError."""
    try:
        # A pipe without a writer would block for good.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise TokenFileError(f"{path}: not a regular file")
            data = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise TokenFileError(f"{path}: {error.strerror}") from None
    if len(data) > LARGEST_FILE:
        raise TokenFileError(f"{path}: more than {LARGEST_FILE} bytes")
    return data


def parse(path: Path, data: bytes) -> tuple[Token, ...]:
    """The tokens of a file with these bytes. Raises TokenFileError for the first mistake."""
    try:
        content = json.loads(data.decode("utf-8"), object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise TokenFileError(f"{path}: not JSON: {redacted(str(error) or 'nested too deeply')}") from None
    try:
        return _tokens(content)
    except (InvalidInput, ValueError) as error:
        raise TokenFileError(f"{path}: {error}") from None


def load(path: Path) -> tuple[Token, ...]:
    """The tokens of a file. Raises TokenFileError."""
    return parse(path, read(path))


def change(path: Path, edit: Callable[[tuple[Token, ...]], Sequence[Token]]) -> None:
    """Replace the tokens of a file by `edit(tokens)`. A file that is not there has none.

    Other writers wait. Readers see the file before or after the change, also after a power cut. Its mode is 0600.

    Raises:
        TokenFileError: the file cannot be read or written. It has not changed then.
    """
    # A rename would replace a symbolic link, and not what it leads to.
    place = Path(os.path.realpath(path))
    try:
        with _locked(place):
            there = load(path) if place.exists() else ()
            tokens = edit(there)
            _check_unique(tokens)
            content = {"version": FORMAT_VERSION, "tokens": [to_json(token) for token in tokens]}
            _replace(place, (json.dumps(content, indent=2) + "\n").encode())
    except OSError as error:
        raise TokenFileError(f"{path}: {error.strerror}") from None


def _tokens(content: Any) -> tuple[Token, ...]:
    if not isinstance(content, dict):
        raise InvalidInput("file", type(content).__name__, 'an object {"version": 1, "tokens": [...]}')
    for name in content:
        if name not in ("version", "tokens"):
            raise InvalidInput(redacted(name), "...", "no such field; there are: version, tokens")
    version, entries = content.get("version"), content.get("tokens")
    if type(version) is not int or version != FORMAT_VERSION:
        raise InvalidInput("version", redacted(repr(version)), f"{FORMAT_VERSION}")
    if not isinstance(entries, list):
        raise InvalidInput("tokens", type(entries).__name__, "a list")
    tokens = [_token(number, entry) for number, entry in enumerate(entries, start=1)]
    _check_unique(tokens)
    return tuple(tokens)


def _token(number: int, entry: Any) -> Token:
    if not isinstance(entry, dict):
        raise InvalidInput(f"token {number}", type(entry).__name__, "an object")
    name = entry.get("name")
    where = f"token {number}" + (f" ({redacted(name)!r})" if isinstance(name, str) else "")
    try:
        return from_json(entry)
    except InvalidInput as error:
        raise ValueError(f"{where}: {error}") from None


def _check_unique(tokens: Sequence[Token]) -> None:
    for field in ("name", "id"):
        seen: dict[str, int] = {}
        for number, token in enumerate(tokens, start=1):
            value = getattr(token, field)
            if value in seen:
                raise InvalidInput(f"token {number}: {field}", value, f"one that token {seen[value]} does not have")
            seen[value] = number


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python would take the last of two fields with one name, and a reader of the file the first."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"field {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return made


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Hold the lock of the file. The file of the lock stays: it could not be removed without a race."""
    lock = os.open(f"{place}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(place: Path, data: bytes) -> None:
    descriptor, partial = tempfile.mkstemp(prefix=f".{place.name}.", dir=place.parent)  # its mode is 0600
    try:
        with open(descriptor, "wb") as file:
            _keep_owner(descriptor, place)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(partial, place)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
    folder = os.open(place.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # else a power cut may undo the rename
    finally:
        os.close(folder)


def _keep_owner(descriptor: int, place: Path) -> None:
    """Give a new file the owner of the old one, so that a server's user can read what root has changed."""
    if os.geteuid() == 0 and place.exists():
        before = place.stat()
        os.fchown(descriptor, before.st_uid, before.st_gid)
