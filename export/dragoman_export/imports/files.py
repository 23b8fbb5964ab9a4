"""Small files of a checkpoint: bounded, decoded and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dragoman_service.errors import InvalidInput

_MOST_BYTES = 64 * 2**20
"""Largest file that is read into memory as a whole: four times a `tokenizer.json` of 256,000 pieces."""


def read_bytes(path: Path, most: int = _MOST_BYTES) -> bytes:
    """The contents of a file.

    Raises:
        InvalidInput: it cannot be read, or is larger than `most` bytes.
    """
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
    """The value of a JSON text. Raises InvalidInput if it is none; `where` names the file."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(where, "damaged", f"JSON ({error})") from error


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
    """A JSON file with an object, or an empty one if there is no such file."""
    return read_object(path) if path.is_file() else {}


def parse_yaml(text: str | bytes, where: str) -> Any:
    """The value of a YAML text, of plain types alone. Raises InvalidInput if it is none; `where` names the file."""
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InvalidInput(where, "damaged", f"YAML of plain values ({error})") from error


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
