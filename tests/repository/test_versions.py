"""Which versions of a model serve, after whatever has happened in its repository."""

from __future__ import annotations

import dataclasses

import pytest

from dragoman_service.repository.registry import Alias
from support.version_world import World, bundle


@pytest.fixture
def world() -> World:
    return World()


# --- at the start


@pytest.mark.parametrize(
    ("versions", "aliases", "serving", "loads"),
    [
        ("1", {}, "1*", "1"),
        ("1 2 3", {}, "3*", "3"),
        ("9 10", {}, "10*", "10"),
        ("1 2 3=bad", {}, "2*", "3 2"),
        ("1=bad 2=bad 3=bad", {}, "", "3 2 1"),
        ("", {}, "", ""),
        ("1 2 3", {"stable": "2"}, "2*", "2"),
        ("1 2 3", {"stable": "2", "canary": "3"}, "2* 3", "2 3"),
        ("1 2 3", {"canary": "2"}, "2 3*", "2 3"),
        ("1 2 3", {"old": "1", "older": "1"}, "1 3*", "1 3"),
        ("1 2=bad 3", {"stable": "2"}, "1*", "2 1"),
        ("1=bad 2=bad 3 4", {"stable": "2"}, "4*", "2 1 4"),
        ("1 2=bad 3", {"stable": "2", "canary": "3"}, "1* 3", "2 1 3"),
        ("1 2 3=bad", {"stable": "2", "canary": "3"}, "2*", "2 3"),
        ("1 3", {"stable": "2"}, "1*", "1"),
        ("3 4", {"stable": "2"}, "4*", "4"),
        ("1 2", {"canary": "7"}, "2*", "2"),
    ],
)  # fmt: skip
def test_what_serves_at_the_start(
    world: World, versions: str, aliases: dict[str, str], serving: str, loads: str
) -> None:
    world.follow(versions, **aliases)
    assert world.serving == serving
    assert sorted(it.partition("=")[0] for it in world.loads) == sorted(loads.split())
    assert world.gone == []
    world.bring()
    assert (world.loads, world.gone) == ([], [])  # nothing is tried twice


def test_an_alias_that_means_nothing_there_is_is_not_in_force(world: World) -> None:
    world.follow("1 2 3=bad", stable="2", canary="3", ghost="9")
    assert world.aliases == {"stable": "2"}


# --- a new version


def test_the_newest_takes_the_place_of_the_one_before(world: World) -> None:
    world.follow("1")
    world.follow("1 2")
    assert (world.serving, world.loads, world.gone) == ("2*", ["2=g2"], ["1=g1"])
    assert world.states == "1:available 2:serving"


def test_a_new_version_that_is_bad_leaves_the_one_before(world: World) -> None:
    world.follow("1")
    world.follow("1 2=bad")
    assert (world.serving, world.gone) == ("1*", [])
    assert world.states == "1:serving 2:failed"
    assert "bad is bad" in world.model.status()[1].reason


def test_a_bad_version_is_tried_again_once_it_has_changed(world: World) -> None:
    world.follow("1 2=bad")
    world.follow("1 2=bad")
    assert world.loads == []
    world.follow("1 2=g2")
    assert (world.serving, world.loads, world.gone) == ("2*", ["2=g2"], ["1=g1"])
    assert world.model.status()[1].reason == ""


def test_a_new_version_changes_nothing_where_another_is_stable(world: World) -> None:
    world.follow("1", stable="1")
    world.follow("1 2", stable="1")
    assert (world.serving, world.loads) == ("1*", [])
    world.follow("1 2", stable="2")
    assert (world.serving, world.loads, world.gone) == ("2*", ["2=g2"], ["1=g1"])


def test_going_back_is_the_older_one_again(world: World) -> None:
    world.follow("1 2", stable="2")
    world.follow("1 2", stable="1")
    assert (world.serving, world.gone) == ("1*", ["2=g2"])


def test_a_canary_serves_beside_the_stable_one_and_goes_with_its_alias(world: World) -> None:
    world.follow("1 2", stable="1")
    world.follow("1 2", stable="1", canary=("2", 0.1))
    assert (world.serving, world.loads, world.gone) == ("1* 2", ["2=g2"], [])
    assert world.model.entry is not None
    assert world.model.entry.aliases["canary"].share == 0.1
    world.follow("1 2", stable="1", canary=("2", 0.5))
    assert world.model.entry.aliases["canary"].share == 0.5
    assert (world.loads, world.gone) == ([], [])
    world.follow("1 2", stable="2")
    assert (world.serving, world.loads, world.gone) == ("2*", [], ["1=g1"])
    world.follow("1 2", stable="2", canary="1")
    world.follow("1 2", stable="2")
    assert (world.serving, world.gone) == ("2*", ["1=g1"])


def test_an_alias_to_a_version_that_cannot_be_loaded_keeps_the_old_one(world: World) -> None:
    world.follow("1 2", stable="1", canary="2")
    world.follow("1 2 3=bad", stable="3", canary="2")
    assert (world.serving, world.gone) == ("1* 2", [])
    assert world.aliases == {"stable": "1", "canary": "2"}
    world.follow("1 2 3=bad", stable="1", canary="3")
    assert world.aliases == {"stable": "1", "canary": "2"}
    world.follow("1 2 3=g3", stable="1", canary="3")
    assert (world.serving, world.gone) == ("1* 3", ["2=g2"])


# --- changed in place


def test_a_bundle_changed_in_place_takes_the_place_of_the_old_one(world: World) -> None:
    world.follow("1=g1")
    world.follow("1=gnew")
    assert (world.serving, world.loads, world.gone) == ("1=gnew*", ["1=gnew"], ["1=g1"])


def test_a_bundle_changed_in_place_that_is_bad_leaves_the_old_one(world: World) -> None:
    world.follow("1 2=g2")
    world.follow("1 2=bad")
    assert (world.serving, world.loads, world.gone) == ("2*", ["2=bad"], [])
    (status,) = [it for it in world.model.status() if it.version == "2"]
    assert (status.state, status.default) == ("serving", True)
    assert "bad is bad" in status.reason
    world.follow("1 2=bad")
    assert world.loads == []
    world.follow("1 2=g2")  # put back as it was
    assert (world.serving, world.loads, world.model.status()[1].reason) == ("2*", [], "")


def test_a_stable_version_changed_in_place_that_is_bad_stays_stable(world: World) -> None:
    world.follow("1 2 3", stable="2")
    world.follow("1 2=bad 3", stable="2")
    assert (world.serving, world.aliases) == ("2*", {"stable": "2"})


# --- what vanishes


def test_what_vanishes_serves_on_until_another_takes_its_place(world: World) -> None:
    world.follow("1 2")
    world.follow("")
    assert (world.serving, world.gone) == ("2*", [])
    assert world.states == "2:serving"
    world.follow("3=bad")
    assert world.serving == "2*"
    world.follow("3")
    assert (world.serving, world.gone) == ("3*", ["2=g2"])
    assert world.states == "3:serving"


def test_a_default_that_vanishes_gives_way_to_the_next_there_is(world: World) -> None:
    world.follow("1 2")
    world.follow("1")
    assert (world.serving, world.loads, world.gone) == ("1*", ["1=g1"], ["2=g2"])


def test_a_stable_version_that_vanishes_serves_on(world: World) -> None:
    world.follow("1 2 3", stable="2", canary="3")
    world.follow("1 3", stable="2", canary="3")
    assert world.serving.split()[-2:] == ["2*", "3"]
    assert world.aliases == {"stable": "2", "canary": "3"}


# --- what operators want


def test_a_version_asked_for_serves_beside_the_default(world: World) -> None:
    world.follow("1 2 3")
    world.model.asked.add("1")
    world.bring()
    assert (world.serving, world.loads) == ("1 3*", ["1=g1"])
    world.follow("1 2 3 4")
    assert (world.serving, world.gone) == ("1 4*", ["3=g3"])
    world.model.asked.discard("1")
    world.bring()
    assert (world.serving, world.gone) == ("4*", ["1=g1"])


def test_a_version_held_back_gives_way_to_the_next(world: World) -> None:
    world.follow("1 2 3")
    world.unload("3")
    assert (world.serving, world.loads, world.gone) == ("2*", ["2=g2"], ["3=g3"])
    assert world.states == "1:available 2:serving 3:unloaded"
    world.follow("1 2 3=gnew")
    assert (world.serving, world.loads) == ("2*", [])
    world.follow("1 2 3 4")
    assert world.serving == "4*"


def test_a_model_held_back_whole_serves_nothing_and_comes_back(world: World) -> None:
    world.follow("1 2")
    world.unload("1", "2", model=True)
    assert (world.serving, world.gone) == ("", ["2=g2"])
    assert world.model.entry is None
    assert world.states == "1:unloaded 2:unloaded"
    world.follow("1 2 3")  # what is published later does not bring it back
    assert (world.serving, world.loads) == ("", [])
    assert world.states == "1:unloaded 2:unloaded 3:unloaded"
    world.unload("1")
    assert (world.serving, world.loads) == ("3*", ["3=g3"])


def test_an_alias_to_a_version_held_back_is_not_in_force(world: World) -> None:
    world.follow("1 2", canary="1")
    world.unload("1")
    assert (world.serving, world.aliases) == ("2*", {})


def test_if_nothing_good_is_left_a_version_held_back_is_still_held_back(world: World) -> None:
    world.follow("1=bad 2")
    world.unload("2")
    assert (world.serving, world.states) == ("", "1:failed 2:unloaded")


def test_what_was_loaded_and_is_not_wanted_after_all_goes(world: World) -> None:
    world.follow("1 2")
    world.model.loaded["1"] = ("g1", bundle("1", "g1"))
    world.bring()
    assert (world.serving, world.gone) == ("2*", ["1=g1"])


# --- what is told


def test_a_bad_version_that_is_held_back_is_so_on_request(world: World) -> None:
    world.follow("1 2=bad")
    world.unload("2")
    assert world.states == "1:serving 2:unloaded"
    assert "bad is bad" in world.model.status()[1].reason


def test_the_status_has_aliases_and_says_which_is_the_default(world: World) -> None:
    world.follow("9 10", stable="9", canary=("10", 0.25), spare="9")
    nine, ten = world.model.status()
    assert (nine.name, nine.version, nine.default, ten.version, ten.default) == ("m", "9", True, "10", False)
    assert nine.aliases == {"stable": Alias("9"), "spare": Alias("9")}
    assert ten.aliases == {"canary": Alias("10", 0.25)}


def test_a_copy_is_changed_alone(world: World) -> None:
    world.follow("1 2=bad", canary="1")
    before = dataclasses.replace(world.model.copy())
    trial = world.model.copy()
    trial.asked.add("2")
    trial.failed.clear()
    trial.loaded["2"] = ("g", bundle("2", "g"))
    trial.settle()
    assert world.model == before
    assert world.serving == "1*"
