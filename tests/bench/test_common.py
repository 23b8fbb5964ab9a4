from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.measure.common import Timing, interleaved, percentile, ratio

from dragoman_model.markdown import markdown_table


def test_competitors_take_turns() -> None:
    order = []
    seconds = iter(range(1, 100))

    def compete(name: str) -> float:
        order.append(name)
        return float(next(seconds))

    timings = interleaved({"a": lambda: compete("a"), "b": lambda: compete("b")}, repeats=3)
    assert order == ["a", "b"] * 4
    assert timings == {"a": Timing((3.0, 5.0, 7.0)), "b": Timing((4.0, 6.0, 8.0))}  # without the warm-up
    assert timings["a"].median == 5
    assert ratio(timings["b"], timings["a"]) == 6 / 5


def test_a_competitor_without_a_clock_is_timed() -> None:
    timings = interleaved({"a": lambda: None}, repeats=2, warm_up=False)
    assert len(timings["a"].rounds) == 2
    assert timings["a"].spread >= 0


def test_tables() -> None:
    text = markdown_table(["name", "value"], [["a", 1234.5], ["long name", 0.01234], ["c", None]])
    assert text.splitlines() == [
        "| name      |  value |",
        "|-----------|-------:|",
        "| a         |  1,234 |",
        "| long name | 0.0123 |",
        "| c         |      - |",
    ]


@pytest.mark.parametrize(("percent", "expected"), [(0, 1), (50, 2), (75, 3), (99, 4), (100, 4)])
def test_percentile_is_the_nearest_rank(percent: float, expected: float) -> None:
    assert percentile([4, 2, 1, 3], percent) == expected
