"""Small files of a checkpoint: bounded, decoded and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dragoman_service.errors import InvalidInput, visible

_MOST_BYTES = 64 * 2**20
"""Largest file that is read into memory as a whole: four times a `tokenizer.json` of 256,000 pieces."""
_MOST_YAML = 256 * 2**10
"""Most characters of YAML, which is options and front matter here: its parser takes a minute for 5 MB."""


def read_bytes(path: Path, most: int = _MOST_BYTES) -> bytes:
    """The contents of a file.

    Raises:
        InvalidInput: it cannot be read, is no regular file, or is larger than `most` bytes.
    """
    if path.exists() and not path.is_file():  # a pipe would make the import wait for ever
        raise InvalidInput(path.name, str(path), "a regular file")
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise InvalidInput(path.name, str(path), f"a readable file ({error})") from error
    if len(data) > most:
        raise InvalidInput(path.name, f"{path.stat().st_size} bytes", f"at most {most} bytes")
    return data


def read_text(path: Path) -> str:
    """The contents of a UTF-8 file. Raises InvalidInput if it is none."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(path.name, str(path), f"UTF-8 ({error})") from error


def parse_json(text: str | bytes, where: str) -> Any:
    """The value of a JSON text. Raises InvalidInput if it is none, or has a key twice; `where` names the file."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(where, "damaged", f"JSON ({error})") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"{visible(twice)!r} stands twice in an object")
    return found


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file with an object.

    Raises:
        InvalidInput: the file cannot be read, or has something else.
    """
    value = parse_json(read_text(path), path.name)
    if not isinstance(value, dict):
        raise InvalidInput(path.name, value, "a JSON object")
    return value


def object_if_there(path: Path) -> dict[str, Any]:
    """A JSON file with an object, or an empty one if there is no such file. A link to nowhere is an error."""
    return read_object(path) if os.path.lexists(path) else {}


def parse_yaml(text: str | bytes, where: str) -> Any:
    """The value of a YAML text, of plain types and without aliases.

    Raises:
        InvalidInput: it is no such text, or a long one; `where` names the file.
    """
    if len(text) > _MOST_YAML:
        raise InvalidInput(where, f"{len(text)} characters", f"at most {_MOST_YAML}")
    try:
        return yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise InvalidInput(where, "damaged", f"YAML of plain values ({reason})") from error


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases. A few lines of them stand for values of any size."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next node. Raises YAMLError if it is an alias."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise yaml.YAMLError(f"the alias *{event.anchor} in line {event.start_mark.line + 1}")
        return super().compose_node(parent, index)


def vocabulary(path: Path) -> dict[str, int]:
    """A JSON file of piece -> id.

    Raises:
        InvalidInput: it is none, or two pieces have the same id.
    """
    pieces = read_object(path)
    for piece, number in pieces.items():
        if not isinstance(number, int) or isinstance(number, bool) or number < 0:
            raise InvalidInput(f"{path.name}: {piece}", number, "an id, 0 or more")
    if len(set(pieces.values())) != len(pieces):
        raise InvalidInput(path.name, "two pieces with the same id", "one piece for each id")
    return pieces


def need(folder: Path, name: str, why: str) -> Path:
    """The path of a file that must be there. Raises InvalidInput, which says `why`, if it is not."""
    path = folder / name
    if not path.is_file():
        raise InvalidInput(name, None, f"a file of this name in {folder}: {why}")
    return path


def digests(paths: Iterable[Path]) -> dict[str, str]:
    """Name -> SHA-256 in hexadecimal digits. The files may be large.

    Raises:
        InvalidInput: one cannot be read.
    """
    found = {}
    for path in sorted(set(paths)):
        try:
            with path.open("rb") as file:
                found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise InvalidInput(path.name, str(path), f"a readable file ({error})") from error
    return found
