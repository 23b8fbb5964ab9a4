"""Numbers of a sentence in its translation."""

from __future__ import annotations

import pytest

from dragoman_service.engine.request import DecodingOptions
from dragoman_service.translation.numbers import missing_numbers
from dragoman_service.translation.warnings import WarningKind
from support.fake_workers import FakeWorkers, served
from support.frontends import translate


@pytest.mark.parametrize(
    ("source", "translation", "missing"),
    [
        ("He has 5 apples.", "Er hat 5 Äpfel.", []),
        ("He has 5 apples.", "Er hat fünf Äpfel.", []),
        ("He has 5 apples.", "Er hat Äpfel.", ["5"]),
        ("He has 17 pears.", "Er hat siebzehn Birnen.", ["17"]),
        ("It is 100.", "Es sind hundert.", []),
        ("It costs 1,250.50 euros.", "Es kostet 1.250,50 Euro.", []),
        ("It costs 1,250.50 euros.", "Es kostet 1.250 Euro.", ["1,250.50"]),
        ("At 5 p.m. on Monday.", "Am Montag um 17 Uhr.", []),
        ("At 5:30 p.m. on Monday.", "Am Montag um 17:30 Uhr.", []),
        ("At 9 a.m. on Monday.", "Am Montag um 9 Uhr.", []),
        ("At 9 a.m. on Monday.", "Am Montag um 21 Uhr.", ["9"]),
        ("At 10 AM.", "Um 22:00 Uhr.", ["10"]),
        ("At 12 a.m.", "Um 0 Uhr.", []),
        ("At 12:30 a.m.", "Um 0:30 Uhr.", []),
        ("At 12:30 p.m.", "Um 12:30 Uhr.", []),
        ("Um 9 Uhr.", "At 9 p.m.", []),
        ("At 9 o'clock.", "Um 21 Uhr.", []),
        ("Tonight at 9:30pm.", "Heute um 21:30 Uhr.", []),
        ("Tonight at 9:30pm.", "Heute um 21:35 Uhr.", ["9:30"]),
        ("Tonight at 9:00.", "Heute um 21 Uhr.", []),
        ("At 6 o'clock.", "Um 18 Uhr.", []),
        ("Um 21 Uhr.", "At 9pm.", []),
        ("Um 0:15 Uhr.", "At 12:15 a.m.", []),
        ("At 6 shops.", "In 18 Läden.", ["6"]),
        ("Room 05 is open.", "Raum fünf ist offen.", []),
        ("On 2024-05-17.", "Am 17.5.2024.", []),
        ("5 and 5 are 10.", "5 und 5 sind 10.", []),
        ("17 and 17 are 34.", "17 sind 34.", ["17"]),
        ("In 1990 and 1991.", "In 1991.", ["1990"]),
        ("No numbers.", "Keine 5 Zahlen.", []),
    ],
)
def test_what_is_missing(source: str, translation: str, missing: list[str]) -> None:
    assert missing_numbers(source, translation, "de") == missing


@pytest.mark.timeout(30)  # it took minutes when each number was looked for in all of the translation
def test_time_is_linear() -> None:
    assert missing_numbers("7, " * 300_000, "x, " * 300_000, "de") == ["7"] * 300_000


def test_other_languages_may_write_small_numbers_as_words() -> None:
    assert missing_numbers("He has 5 apples and 45 pears.", "Ő almát eszik.", "hu") == ["45"]


def test_a_reply_warns_of_a_missing_number() -> None:
    """The fake cuts translations at `max_length`."""
    options = DecodingOptions(max_length=8)
    (result,) = translate(served(FakeWorkers()), "We are 34. And 35 others.", options=options)
    assert result.hypotheses[0].text == "WE ARE 3 AND 35 O"
    assert [(it.kind, it.start, it.end) for it in result.warnings] == [(WarningKind.NUMBER_MISSING, 0, 10)]
