"""Marian's vocabularies: YAML as Marian writes it, or a SentencePiece model that is the vocabulary itself."""

from __future__ import annotations

import re
from pathlib import Path

from dragoman_export.imports.families.vocabulary import spm_pieces
from dragoman_export.imports.files import read_text
from dragoman_service.errors import InvalidInput

_ESCAPE = re.compile(r"\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)
_NAMED = {"0": "\0", "a": "\a", "b": "\b", "t": "\t", "n": "\n", "v": "\v", "f": "\f", "r": "\r", "e": "\x1b"}
_NAMED |= {"N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029"}
"""Escapes of YAML that are a letter."""


def read_vocabulary(path: Path) -> dict[str, int]:
    """Piece -> id, from 0 to the number of pieces.

    The lines are read one by one: a loader of YAML takes some pieces for other things, such as numbers, `null` or `~`,
    and refuses characters that Marian writes as they are.

    Raises:
        InvalidInput: the file is damaged, or ids are missing or given twice.
    """
    if path.suffix == ".spm":
        return {piece: place for place, piece in enumerate(spm_pieces(path))}
    pieces = _yaml(path)
    if sorted(pieces.values()) != list(range(len(pieces))):
        raise InvalidInput(path.name, f"{len(pieces)} pieces", f"the ids 0 to {len(pieces) - 1}, each of one piece")
    return pieces


def _yaml(path: Path) -> dict[str, int]:
    pieces: dict[str, int] = {}
    key: str | None = None
    for number, line in enumerate(re.split(r"\r?\n", read_text(path)), start=1):
        if not line or line in ("---", "..."):
            continue
        if line.startswith("? "):  # a key that is too long or odd to stand before a colon
            key = line[2:]
            continue
        name, mark, value = (key, ":", line) if key is not None else line.rpartition(":")
        text = value.removeprefix(":").strip() if key is not None else value.strip()
        where = f"{path.name}, line {number}"
        if not mark or not re.fullmatch(r"\d{1,9}", text):
            raise InvalidInput(where, line, "PIECE: ID")
        piece = _unquoted(name.strip(" ") if name[:1] not in "\"'" else name.rstrip(" "), where)
        if piece in pieces:
            raise InvalidInput(where, piece, "each piece once")
        pieces[piece], key = int(text), None
    return pieces


def _unquoted(name: str, where: str) -> str:
    """The piece that a key stands for."""
    if len(name) >= 2 and name[0] == name[-1] == "'":
        return name[1:-1].replace("''", "'")
    if len(name) >= 2 and name[0] == name[-1] == '"':
        return _ESCAPE.sub(_character, name[1:-1])
    return name


def _character(match: re.Match[str]) -> str:
    digits = match[1] or match[2] or match[3]
    if digits:
        code = int(digits, 16)
        return chr(code) if code < 0x110000 else match[0]
    return _NAMED.get(match[4], match[4])
