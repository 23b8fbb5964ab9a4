from __future__ import annotations

import re

import pytest

from dragoman_model.augment import augment
from dragoman_model.recipe import Augmentation

PAIRS = [
    ("Tom lives in Boston.", "Tom wohnt in Boston."),
    ("I know Tom, and Mary does too.", "Ich kenne Tom, und Mary auch."),
    ("She is 34 years old!", "Sie ist 34 Jahre alt!"),
    ("In April it rains.", "Im April regnet es."),
    ("Where is the station?", "Wo ist der Bahnhof?"),
]


def added(**shares: float) -> list[tuple[str, str]]:
    return augment(PAIRS, Augmentation(**shares), seed=1)


def test_nothing_is_added_unasked() -> None:
    assert added() == []


def test_capitals_are_for_both_sides() -> None:
    assert sorted(added(upper=1.0)) == sorted((source.upper(), target.upper()) for source, target in PAIRS)


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
    (age,) = (re.fullmatch(r"She is (\d+) years old!", source) for source in made if source.startswith("She"))
    assert age
    assert age[1] != "34"
    assert made[age[0]] == f"Sie ist {age[1]} Jahre alt!"
    (home,) = (re.fullmatch(r"(.+) lives in (.+)\.", source) for source in made if " lives in " in source)
    assert home
    assert made[home[0]] == f"{home[1]} wohnt in {home[2]}."


def test_what_has_nothing_to_swap_is_not_added_again() -> None:
    assert {source for source, _ in added(swapped=1.0)}.isdisjoint({"Where is the station?", "In April it rains."})


def test_a_share_is_one_of_the_pairs() -> None:
    pairs = [(f"sentence number {index}", f"Satz Nummer {index}") for index in range(200)]
    assert len(augment(pairs, Augmentation(upper=0.25, lower=0.0), seed=1)) == 50


def test_the_same_seed_gives_the_same_pairs() -> None:
    shares = Augmentation(0.2, 0.4, 0.2, 0.6, 1.0)
    assert augment(PAIRS, shares, seed=5) == augment(PAIRS, shares, seed=5) != augment(PAIRS, shares, seed=6)


@pytest.mark.parametrize("text", ["1,000.5", "2018-05-13", "v2.0", "10:30"])
def test_numbers_inside_of_other_things_are_left_alone(text: str) -> None:
    assert augment([(f"Take {text} now", f"Nimm {text} jetzt")], Augmentation(swapped=1.0), seed=1) == []
