"""Marian's vocab.yml, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_export.imports.families.marian_vocabulary import read_vocabulary
from dragoman_service.errors import InvalidInput


def write(folder: Path, text: str) -> Path:
    path = folder / "vocab.yml"
    path.write_bytes(text.encode())
    return path


@pytest.mark.parametrize(
    ("key", "piece"),
    [
        ("a", "a"),
        ('"</s>"', "</s>"),
        ('"\\""', '"'),
        ('"\\\\"', "\\"),
        ('"\\x85"', "\x85"),
        ('"\\x84 "', "\x84 "),
        ('"\\u2028x"', "\u2028x"),
        ('"\\t"', "\t"),
        ('"a: b"', "a: b"),
        ("''''", "'"),
        ("'!\\\"'", '!\\"'),
        ("'#'", "#"),
        ("'it''s'", "it's"),
        ('\\"', '\\"'),
        ("$", "$"),
        (":", ":"),
        ("a:b", "a:b"),
        ("null", "null"),
        ("~", "~"),
        ("1", "1"),
        ("yes", "yes"),
        ("▁the", "▁the"),
        ("'", "'"),
        ('"', '"'),
    ],
)
def test_keys(tmp_path: Path, key: str, piece: str) -> None:
    assert read_vocabulary(write(tmp_path, f"first: 0\n{key}: 1\n")) == {"first": 0, piece: 1}
    assert read_vocabulary(write(tmp_path, f"first: 0\r\n? {key}\r\n: 1\r\n")) == {"first": 0, piece: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 0\nb\n", "vocab.yml, line 2: got 'b'; allowed: PIECE: ID"),
        ("a: x\n", "line 1"),
        ("a: 0\na: 1\n", "line 2: got 'a'; allowed: each piece once"),
        ("a: 0\nb: 0\n", "got '2 pieces'; allowed: the ids 0 to 1, each of one piece"),
        ("a: 0\nb: 2\n", "the ids 0 to 1"),
        ("src: [a]\n", "line 1"),
    ],
)
def test_damaged_vocabularies(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        read_vocabulary(write(tmp_path, text))
