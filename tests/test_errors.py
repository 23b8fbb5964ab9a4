"""What messages show of values."""

from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_service.errors import BundleError, InvalidInput, visible


def message(value: object, field: str = "f") -> str:
    return str(InvalidInput(field, value, "x"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "'a'"),
        ("a" * 100, f"'{'a' * 100}'"),
        ("a" * 101, f"'{'a' * 100}'... (101 characters)"),
        ("ä" * 3_000_000, f"'{'ä' * 100}'... (3000000 characters)"),
        (b"a" * 200, f"b'{'a' * 100}'... (200 bytes)"),
        ("a\nb\x1b[31m\u202e", r"'a\nb\x1b[31m\u202e'"),
        ("\n" * 100, "'" + r"\n" * 100 + "'"),
        (["a"] * 1_000, repr(["a"] * 1_000)[:100] + "... (5000 characters)"),
        (7, "7"),
        (Path("a\tb"), r"PosixPath('a\tb')"),
    ],
)
def test_a_value_is_shown_quoted_and_not_at_any_length(value: object, shown: str) -> None:
    assert message(value) == f"f: got {shown}; allowed: x"


def test_a_field_may_have_a_name_of_any_characters() -> None:
    assert message(1, "a\nb") == r"a\nb: got 1; allowed: x"
    assert len(message(1, "a" * 3_000_000)) < 1_100
    assert message(1, "/long" * 40 + " line 3").startswith("/long" * 40 + " line 3: ")


@pytest.mark.parametrize(
    "character",
    ["\n", "\r", "\0", "\x1b", "\x7f", "\x85", "\x9b", "\u200b", "\u2028", "\u202e", "\u2066", "\ufeff", "\ud800"],
)
def test_what_is_not_printable_is_escaped(character: str) -> None:
    assert visible(f"a{character}b") == f"a{ascii(character)[1:-1]}b"


def test_what_is_printable_stays() -> None:
    assert visible("Grüße an 東京, \\o/ 'x'") == "Grüße an 東京, \\o/ 'x'"


def test_escapes_count_too() -> None:
    assert visible("\n" * 99, 100) == "\\n" * 50 + "... (99 characters)"


def test_problems_of_a_bundle_forge_no_line_and_have_an_end() -> None:
    error = BundleError(Path("a\nb"), ["files.\x1b[2J: missing", "x" * 3_000_000, *["y"] * 100_000])
    assert str(error).startswith(r"bundle a\nb: files.\x1b[2J: missing; xxx")
    assert str(error).endswith("; y; and 99952 more problems")
    assert len(str(error)) < 2_000
    assert len(error.problems) == 100_002
