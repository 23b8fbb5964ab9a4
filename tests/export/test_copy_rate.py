"""Which stand-ins are chosen for a bundle."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dragoman_export import copy_rate
from dragoman_export.copy_rate import CANDIDATES, SPAN, best_stand_ins, is_better, spanned
from dragoman_export.renew_stand_ins import renew_stand_ins
from dragoman_export.sources import Source
from dragoman_service.bundle.bundle import Bundle, write_bundle

SENTENCES = ["The cat, it sees the dogs.", "Too few words.", 'He said "we all are here" now.']


def test_spans_stand_in_the_places_of_words() -> None:
    found = spanned(SENTENCES, 100)
    assert [it.count(SPAN) for it in found] == [1, 1, 2, 1, 3, 1, 2, 1, 4, 1] * 10
    assert {len(it.split()) for it in found[::2]} == {6}
    assert all(it[-1] == "." for it in found)
    assert any(f"The {SPAN}, it" in it for it in found)
    assert len(set(found[::20])) > 1  # other places each time
    assert found == spanned(SENTENCES, 100)
    assert spanned(["Too few words."], 100) == []


@pytest.mark.parametrize(
    ("one", "other", "better"), [(30, 30, False), (35, 30, False), (45, 30, True), (30, 45, False), (60, 0, True)]
)
def test_better_by_more_than_chance(one: int, other: int, better: bool) -> None:
    assert is_better([True] * one + [False] * (60 - one), [False] * (60 - other) + [True] * other) is better


@pytest.mark.parametrize(
    ("lost", "chosen"),
    [("", "numbers"), ("[0-9]", "letters"), ("[0-9X]", "numbers"), ("[0-9]_|X", "numbers")],
)
def test_numbers_are_chosen_unless_another_list_is_better(
    lost: str, chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model loses what the pattern says."""

    def translated(texts: Sequence[str], *others: Any) -> list[str]:
        return [re.sub(lost, "", text) for text in texts]

    monkeypatch.setattr(copy_rate, "translate_texts", translated)
    monkeypatch.setattr(copy_rate, "MOST_SENTENCES", 40)
    sources = [Source(text, (), (), ("en", "de")) for text in SENTENCES]
    nothing: Any = None
    assert best_stand_ins(sources, nothing, nothing, nothing) == CANDIDATES[chosen]


def test_the_stand_ins_of_a_bundle_are_chosen_anew(tiny_bundle: Bundle, tmp_path: Path) -> None:
    files: dict[str, bytes | Path] = {name: tiny_bundle.path / name for name in tiny_bundle.manifest.files}
    path = tmp_path / "tiny" / "1"
    write_bundle(path, replace(tiny_bundle.manifest, stand_ins=("A", "B")), files)
    assert renew_stand_ins(path).manifest.stand_ins == CANDIDATES["numbers"]  # the random model copies nothing
    for file in path.iterdir():
        assert file.read_bytes() == (tiny_bundle.path / file.name).read_bytes()
