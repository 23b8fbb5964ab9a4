from __future__ import annotations

import random
import re

import pytest

from dragoman_model.data.numerals import Notation, other_numbers

ENGLISH, GERMAN, FRENCH, UNKNOWN = (Notation.of(language) for language in ("en", "de", "fr", "xx"))


def variants(
    source: str, target: str, notations: tuple[Notation, Notation] = (ENGLISH, GERMAN)
) -> set[tuple[str, str]]:
    return {other_numbers((source, target), notations, random.Random(seed)) for seed in range(200)}


def value(text: str, group: str, decimal: str) -> float:
    """Of the only number in it."""
    return float(text.strip("abcdefghijklmnopqrstuvwxyz. ").replace(group, "").replace(decimal, "."))


def test_each_language_writes_the_same_number_in_its_own_way() -> None:
    made = variants("about 345 euros", "etwa 345 euro")
    assert all(value(source, ",", ".") == value(target, ".", ",") for source, target in made)
    assert any("," in source and "." in target for source, target in made)  # grouped
    assert any("." in source and "," in target for source, target in made)  # decimal


def test_french_groups_by_narrow_spaces() -> None:
    made = variants("about 345 euros", "environ 345 euros", (ENGLISH, FRENCH))
    assert any(re.search(r"\d\u202f\d{3}", target) for _, target in made)


@pytest.mark.parametrize("target", ["86.400 Sekunden", "86400 Sekunden", "86 400 Sekunden"])
def test_grouped_numbers_are_found_however_the_target_writes_them(target: str) -> None:
    made = variants("86,400 seconds", target)
    assert all(re.fullmatch(r"\d\d,\d{3} seconds", source) for source, _ in made)
    assert all(re.fullmatch(r"\d\d\.\d{3} Sekunden", target) for _, target in made)
    assert len(made) > 100


@pytest.mark.parametrize("separator", [":", "."])
def test_times_keep_what_stands_between_hour_and_minute(separator: str) -> None:
    made = variants("See you at 2:30.", f"Bis um 2{separator}30 Uhr.")
    times = [re.fullmatch(r"See you at (\d+):(\d\d)\.", source) for source, _ in made]
    assert {target for _, target in made} == {f"Bis um {time[1]}{separator}{time[2]} Uhr." for time in times if time}
    assert {int(time[1]) for time in times if time} == set(range(1, 13))


def test_hours_after_noon_stay_there() -> None:
    assert all(13 <= int(source[3:5]) <= 23 for source, _ in variants("at 14:05", "um 14:05"))


def test_a_day_of_a_month_stays_one() -> None:
    made = variants("on 22 July", "am 22. Juli")
    assert {int(source.split()[1]) for source, _ in made} == set(range(3, 32))


def test_years_are_not_grouped() -> None:
    assert all(re.fullmatch(r"in \d{4}", source) for source, _ in variants("in 1989", "im Jahr 1989"))


def test_a_language_without_known_notation_gets_digits_alone() -> None:
    made = variants("345 words", "345 xoxo", (ENGLISH, UNKNOWN))
    assert all(source.split()[0] == target.split()[0] for source, target in made)
    assert all(source.split()[0].isdigit() for source, _ in made)


def test_a_number_grouped_with_spaces_is_one_number() -> None:
    made = variants("It costs 12,500 euros.", "Cela coûte 12 500 euros.", (ENGLISH, FRENCH))
    assert all(re.fullmatch(r"It costs \d\d,\d{3} euros\.", source) for source, _ in made)
    assert all(re.fullmatch(r"Cela coûte \d\d\u202f\d{3} euros\.", target) for _, target in made)
    back = variants("Cela coûte 12 500 euros.", "It costs 12,500 euros.", (FRENCH, ENGLISH))
    assert len(back) > 100
    both = variants("exactly 12 500 pieces", "genau 12 500 Stück")
    assert both == {("exactly 12 500 pieces", "genau 12 500 Stück")}


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("Take 1,000.5 now", "Nimm 1,000.5 jetzt"),
        ("on 2018-05-13", "am 2018-05-13"),
        ("v2.0 of 3.4.5", "v2.0 von 3.4.5"),
        ("10:30:15 and 1/3", "10:30:15 und 1/3"),
        ("I have 1 or 2", "Ich habe 1 oder 2"),
        ("seven at 19:30", "sieben um halb acht"),
        ("5 and 5", "5 und 5"),
        ("only 12 here", "nur hier"),
    ],
)
def test_what_is_part_of_something_else_or_not_on_both_sides_is_left_alone(source: str, target: str) -> None:
    assert variants(source, target) == {(source, target)}
