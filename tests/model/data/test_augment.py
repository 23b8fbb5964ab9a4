from __future__ import annotations

import re

from dragoman_model.data.augment import augment
from dragoman_model.recipe import Augmentation

PAIRS = [
    ("Tom lives in Boston.", "Tom wohnt in Boston."),
    ("I know Tom, and Mary does too.", "Ich kenne Tom, und Mary auch."),
    ("She is 34 years old!", "Sie ist 34 Jahre alt!"),
    ("In April it rains.", "Im April regnet es."),
    ("Where is the station?", "Wo ist der Bahnhof?"),
]


LANGUAGES = ("en", "de")


def added(**shares: float) -> list[tuple[str, str]]:
    return list(augment(PAIRS, LANGUAGES, Augmentation(**shares), seed=1))


def test_nothing_is_added_unasked() -> None:
    assert added() == []


def test_a_careless_source_has_a_careful_target() -> None:
    assert ("where is the station?", "Wo ist der Bahnhof?") in added(lower=1.0)


def test_ends_without_punctuation_are_for_both_sides() -> None:
    assert ("Where is the station", "Wo ist der Bahnhof") in added(unpunctuated=1.0)
    assert not any(text.endswith((".", "?", "!")) for pair in added(unpunctuated=1.0) for text in pair)


def test_joined_pairs_are_neighbours_in_their_order() -> None:
    whole = [" ".join(side) for side in zip(*PAIRS, strict=True)]
    made = added(joined=1.0)
    assert made
    assert all(text in joined for pair in made for text, joined in zip(pair, whole, strict=True))


def test_what_is_swapped_is_the_same_on_both_sides() -> None:
    made = dict(added(swapped=1.0))
    (home,) = (re.fullmatch(r"(.+) lives in (.+)\.", source) for source in made if " lives in " in source)
    assert home
    assert made[home[0]] == f"{home[1]} wohnt in {home[2]}."


def test_what_has_nothing_to_swap_is_not_added_again() -> None:
    nothing = {"Where is the station?", "In April it rains."}
    assert {source for source, _ in added(swapped=1.0, numbers=3.0)}.isdisjoint(nothing)


def test_a_share_is_one_of_the_pairs() -> None:
    pairs = [(f"Sentence number {index}", f"Satz Nummer {index}") for index in range(200)]
    assert len(list(augment(pairs, LANGUAGES, Augmentation(unpunctuated=0.0, lower=0.25), seed=1))) == 50


def test_numbers_are_so_many_times_each() -> None:
    made = added(numbers=3.0)
    ages = [re.fullmatch(r"She is (\S+) years old!", source) for source, _ in made]
    assert len(made) == 3
    assert all(age and age[1] != "34" for age in ages)


def test_the_same_seed_gives_the_same_pairs() -> None:
    shares = Augmentation(0.4, 0.2, 0.6, 1.0, 3.0)
    one, again, other = (list(augment(PAIRS, LANGUAGES, shares, seed)) for seed in (5, 5, 6))
    assert one == again != other
