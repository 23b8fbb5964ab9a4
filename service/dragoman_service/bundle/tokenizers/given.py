"""The files and settings of a tokenizer as a manifest gives them, read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from dragoman_service.bundle.tokenizers.encoding import open_model
from dragoman_service.bundle.tokenizers.protocol import TokenizerSpec
from dragoman_service.errors import InvalidInput

_MAX_ID = 2**31 - 1
"""Ids are 32-bit integers in the graphs."""


class Given:
    """The files and settings of one tokenizer. Every error is an InvalidInput that names the role or the setting."""

    def __init__(self, spec: TokenizerSpec, files: Mapping[str, bytes]) -> None:
        """`files` has the contents for each role of `spec.files`."""
        self.spec = spec
        self.files = files

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the kind, the settings and the files, in hexadecimal."""
        digests = {role: hashlib.sha256(self.files[role]).hexdigest() for role in self.files}
        described = json.dumps([self.spec.kind, self.spec.settings, digests], sort_keys=True)
        return hashlib.sha256(described.encode()).hexdigest()

    def model(self, role: str) -> Any:
        """A SentencePiece model."""
        return open_model(self.files[role], _file(role))

    def vocabulary(self, role: str) -> dict[str, int]:
        """A JSON object, piece -> id. Every id has one piece."""
        pairs = self._json(role)
        if not isinstance(pairs, _Pairs) or not pairs:
            raise InvalidInput(_file(role), "something else", "a JSON object, piece -> id")
        ids: dict[str, int] = {}
        pieces: dict[int, str] = {}
        for piece, i in pairs:
            _check_piece(piece, _file(role))
            if type(i) is not int or not 0 <= i <= _MAX_ID:
                raise InvalidInput(f"{_file(role)}, id of {piece!r}", i, f"0 to {_MAX_ID}")
            if piece in ids or i in pieces:
                raise InvalidInput(f"{_file(role)}, id {i}", piece, "every piece and every id once")
            ids[piece], pieces[i] = i, piece
        return ids

    def piece_list(self, role: str) -> list[str]:
        """A JSON list of pieces, in the order of their ids."""
        pieces = self._json(role)
        if not isinstance(pieces, list) or isinstance(pieces, _Pairs) or not pieces:
            raise InvalidInput(_file(role), "something else", "a JSON list of pieces")
        for place, piece in enumerate(pieces):
            if not isinstance(piece, str):
                raise InvalidInput(f"{_file(role)}, id {place}", piece, "a piece, which is a string")
            _check_piece(piece, _file(role))
        return pieces

    def flag(self, name: str) -> bool:
        """A setting that is true or false; false if it is missing."""
        value = self.spec.settings.get(name, False)
        if not isinstance(value, bool):
            raise InvalidInput(_setting(name), value, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        """A setting that is a string."""
        value = self.spec.settings.get(name, default)
        if not isinstance(value, str):
            raise InvalidInput(_setting(name), value, "a string")
        return value

    def texts(self, name: str) -> list[str]:
        """A setting that is a list of strings; empty if it is missing."""
        value = self.spec.settings.get(name, [])
        if not isinstance(value, list) or not all(isinstance(it, str) for it in value):
            raise InvalidInput(_setting(name), value, "a list of strings")
        return value

    def languages(self) -> dict[str, str]:
        """The setting `languages`: BCP 47 tag -> the model's own code; empty if it is missing."""
        value = self.spec.settings.get("languages", {})
        if not isinstance(value, dict) or not all(isinstance(it, str) for pair in value.items() for it in pair):
            raise InvalidInput(_setting("languages"), value, "an object, BCP 47 tag -> the model's own code")
        if len({tag.lower() for tag in value}) < len(value):
            raise InvalidInput(_setting("languages"), value, "every language once, whether in upper or lower case")
        return value

    def language_ids(self, taken: Mapping[int, str]) -> dict[str, int]:
        """The setting `language_ids`: the model's own code -> its id, which no other code or piece has.

        Args:
            taken: Id -> piece, of the other ids.
        """
        value = self.spec.settings.get("language_ids")
        if not isinstance(value, dict) or not value:
            raise InvalidInput(_setting("language_ids"), value, "an object, the model's own code -> its id")
        for code, i in value.items():
            _check_piece(code, _setting("language_ids"))
            if type(i) is not int or not 0 <= i <= _MAX_ID:
                raise InvalidInput(f"{_setting('language_ids')}.{code}", i, f"0 to {_MAX_ID}")
            if i in taken:
                raise InvalidInput(f"{_setting('language_ids')}.{code}", i, f"another id; {taken[i]!r} has this one")
        if len(set(value.values())) < len(value):
            raise InvalidInput(_setting("language_ids"), value, "another id for each language")
        return value

    def known_languages(self, ids: Mapping[str, int], allowed: str) -> dict[str, int]:
        """BCP 47 tag -> id, of `languages`. `ids` has the ids of the model's codes, and `allowed` says which."""
        found = {}
        for tag, code in self.languages().items():
            if code not in ids:
                raise InvalidInput(f"{_setting('languages')}.{tag}", code, allowed)
            found[tag] = ids[code]
        return found

    def size(self, name: str, needed: int) -> int:
        """A setting that is a number of ids, `needed` or more; `needed` if it is missing."""
        value = self.spec.settings.get(name, needed)
        if type(value) is not int or not needed <= value <= _MAX_ID + 1:
            raise InvalidInput(_setting(name), value, f"{needed} or more, as the highest id is {needed - 1}")
        return value

    def _json(self, role: str) -> Any:
        try:
            # A list of pairs, because an object would hide a key that stands twice.
            return json.loads(self.files[role], object_pairs_hook=_Pairs)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(_file(role), f"{len(self.files[role])} bytes", f"JSON ({error})") from error


class _Pairs(list[tuple[str, Any]]):
    """The members of a JSON object."""


def _check_piece(piece: str, field: str) -> None:
    try:
        piece.encode()
    except UnicodeEncodeError as error:  # JSON may have them, but texts for clients may not
        raise InvalidInput(field, piece, "pieces without lone surrogates") from error


def _file(role: str) -> str:
    return f"tokenizer.files.{role}"


def _setting(name: str) -> str:
    return f"tokenizer.settings.{name}"
