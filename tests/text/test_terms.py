"""Terms are found as words of a text, the longest first."""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence

import pytest

from dragoman_service.errors import InvalidInput
from dragoman_service.text.terms import MAX_CHARACTERS, MAX_WORDS, Glossary, Match, Term, find_terms


def found(text: str, *terms: Term) -> list[tuple[str, str | None]]:
    return [(text[match.start : match.end], match.term.target) for match in Glossary(terms).matches(text)]


@pytest.mark.parametrize(
    ("source", "text", "places"),
    [
        ("bank", "The bank, a Bank: banks, Sparbank, bank_1 and bank's", ["bank", "Bank", "bank"]),
        ("C++", "C++ and c ++, C+++", ["C++", "C++"]),
        (
            "machine learning",
            "machine  learning, machine\u00a0learning",
            ["machine  learning", "machine\u00a0learning"],
        ),
        ("machine learning", "machine\nlearning machine, learning machinelearning", []),
        ("café", "cafe\u0301 CAFÉ Café\u0301s cafe", ["cafe\u0301", "CAFÉ"]),
        ("Straße", "STRASSE strasse Straßen", ["STRASSE", "strasse"]),
        ("機械", "この機械学習と機械", ["機械", "機械"]),
        ("은행", "은행에서", ["은행"]),
        ("ที่", "ที่นี่ ที", ["ที่"]),
        ("हिन्दी", "हिन्दी, हिन्दीभाषा", ["हिन्दी"]),
        ("İstanbul", "İstanbul", ["İstanbul"]),
        ("e-mail", "E-Mail e - mail", ["E-Mail"]),
    ],
)
def test_where_terms_are_found(source: str, text: str, places: list[str]) -> None:
    assert [place for place, _ in found(text, Term(source, "x"))] == places


def test_the_longest_of_those_that_begin_first() -> None:
    terms = Term("a b", "1"), Term("a", "2"), Term("b c d", "3"), Term("a b c e", "4")
    assert found("a b c d a b c e a c b c d", *terms) == [
        ("a b", "1"),
        ("a b c e", "4"),
        ("a", "2"),
        ("b c d", "3"),
    ]


def test_case_sensitive_terms_are_preferred() -> None:
    terms = Term("us", "uns"), Term("US", "USA", case_sensitive=True), Term("Us", "?", case_sensitive=True)
    assert found("us US Us uS", *terms) == [("us", "uns"), ("US", "USA"), ("Us", "?"), ("uS", "uns")]
    assert found("us uS", *terms[1:]) == []


def test_terms_of_the_first_glossary_come_first() -> None:
    first, second = Glossary([Term("b", None)]), Glossary([Term("a b", "1"), Term("a", "2"), Term("c", "3")])
    matches = find_terms("a b c a", [first, second])
    assert [(match.start, match.end, match.term.target) for match in matches] == [
        (2, 3, None),
        (4, 5, "3"),
        (6, 7, "2"),
    ]


def slowly(text: str, terms: Sequence[Term]) -> list[Match]:
    """The terms of a text in which words are of single letters, by trying each at each place."""
    matches: list[Match] = []
    place = 0
    while place < len(text):
        best = None
        for term in terms:
            words = map(re.escape, term.source.split())
            flags = re.NOFLAG if term.case_sensitive else re.IGNORECASE
            match = re.compile(r"(?<!\w)" + " +".join(words) + r"(?!\w)", flags).match(text, place)
            if match and (best is None or (match.end(), term.case_sensitive) > (best.end, best.term.case_sensitive)):
                best = Match(*match.span(), term)
        matches += [best] if best else []
        place = best.end if best else place + 1
    return matches


def test_random_terms_are_those_of_a_slow_search() -> None:
    rng = random.Random(5)
    some = 0
    for _ in range(2000):
        terms: dict[tuple[str, bool], Term] = {}
        for _ in range(rng.randrange(1, 8)):
            source, exact = " ".join(rng.choices("aAbB", k=rng.randrange(1, 5))), rng.random() < 0.3
            terms.setdefault((source if exact else source.lower(), exact), Term(source, "x", exact))
        text = "".join(rng.choice(["a", "A", "b", "B", " ", " ", "  ", ", ", "ab", "\n"]) for _ in range(40))
        expected = slowly(text, list(terms.values()))
        assert list(Glossary(terms.values()).matches(text)) == expected, (text, terms)
        some += len(expected)
    assert some > 2000


def test_matches_are_slices_of_any_text() -> None:
    rng = random.Random(6)
    glossary = Glossary([Term(source, "x") for source in ("a", "漢字", "e\u0301", "a.b", "ß", "1")])
    for _ in range(2000):
        text = "".join(rng.choice("a.b漢字e\u0301ßẞ1 \u00a0\t\x00\u200b\ud800😀") for _ in range(30))
        done = 0
        for match in glossary.matches(text):
            assert done <= match.start < match.end <= len(text)
            place = unicodedata.normalize("NFC", text[match.start : match.end])
            assert place.casefold() == unicodedata.normalize("NFC", match.term.source).casefold()
            done = match.end


@pytest.mark.parametrize(
    ("term", "field"),
    [
        (Term("", "x"), "terms[1].source"),
        (Term(" a", "x"), "terms[1].source"),
        (Term("a\nb", "x"), "terms[1].source"),
        (Term("--", "x"), "terms[1].source"),
        (Term("a" * (MAX_CHARACTERS + 1), "x"), "terms[1].source"),
        (Term("漢" * (MAX_WORDS + 1), "x"), "terms[1].source"),
        (Term("ONE", "x"), "terms[1].source"),
        (Term("a", ""), "terms[1].target"),
        (Term("a", "b\u2028c"), "terms[1].target"),
        (Term("a", "b" * (MAX_CHARACTERS + 1)), "terms[1].target"),
        (Term("", None), "terms[1]"),
    ],
)
def test_bad_terms_are_refused(term: Term, field: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        Glossary([Term("one", "eins"), term])
    assert raised.value.field == field


def test_the_same_source_in_another_case_is_another_if_case_sensitive() -> None:
    assert len(Glossary([Term("a", "1", True), Term("A", "2", True), Term("A", "3")])) == 3
    with pytest.raises(InvalidInput, match="one term for each source"):
        Glossary([Term("a b", "1", True), Term("a  b", "2", True)])


@pytest.mark.timeout(60)
@pytest.mark.parametrize("unit", ["e", "e ", "e f ", "漢", "\u0301\u0323", "-", "\x00"])
def test_time_is_linear(unit: str) -> None:
    """With quadratic time the tests would exceed their limit of time."""
    text = "e" + unit * (400_000 // len(unit))
    assert all(it[0] in ("e", "e f e") for it in found(text, Term("e", "x"), Term("e f e", "y")))
