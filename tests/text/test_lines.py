from __future__ import annotations

import pytest

from dragoman_service.text.lines import joined_lines


@pytest.mark.parametrize(
    ("text", "joined"),
    [
        ("one\ntwo", "one two"),
        ("one \r\n  two", "one two"),
        ("one\n\ntwo", "one\n\ntwo"),
        ("one\n \ntwo", "one\n \ntwo"),
        ("Trans-\nlation", "Translation"),
        ("Haupt-\nund Nebenstraße", "Haupt- und Nebenstraße"),
        ("E-Mail-\nAdresse", "E-Mail-Adresse"),
        ("a well-known, well-\nknown man", "a well-known, well-known man"),
        ("soft\xad\nhyphen", "softhyphen"),
        ("It is 5-\n6 now", "It is 5-\n6 now".replace("\n", " ")),
        ("List:\n- one\n- two\n1. three", "List:\n- one\n- two\n1. three"),
        ("end\n", "end\n"),
        ("\nbegin", "\nbegin"),
        ("", ""),
    ],
)
def test_lines_of_a_paragraph_are_joined(text: str, joined: str) -> None:
    assert joined_lines(text).text == joined


def test_marked_lines_stay() -> None:
    assert joined_lines("a\nb\nc", [(1, 3)]).text == "a\nb c"


def test_indices_are_those_of_the_source() -> None:
    text = "Trans-\nlation of\nthis"
    joined = joined_lines(text)
    assert joined.text == "Translation of this"
    for word in ("Trans", "lation", "of", "this"):
        assert joined.source_of(joined.text.index(word)) == text.index(word)
        assert joined.index_of(text.index(word)) == joined.text.index(word)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["a", "a-", "a-\n", "-\n", "a \n", " ", "\n \n", "a\xad\n"])
def test_time_is_linear(unit: str) -> None:
    """With quadratic time the tests would exceed their limit of time."""
    text = unit * (400_000 // len(unit))
    assert joined_lines(text).source_of(0) == 0
