"""The invariant checks detect and report every kind of violation."""

from __future__ import annotations

import dataclasses
import re

import pytest

from dragoman_service.engine.plan import Adjustment, Adjustments, Join, RowCopy, StepPlan
from support.invariants import RunningRequest, SchedulerSnapshot, WaitingRequest, check, check_plan

GOOD = SchedulerSnapshot(
    max_rows=4,
    extent=3,
    holes=(),
    cached_positions=23,
    waiting=(WaitingRequest(request_id=3, num_rows=4, source_length=5),),
    running=(
        RunningRequest(request_id=1, num_rows=2, rows=(0, 2), source_length=5, position=3, max_position=9),
        RunningRequest(request_id=2, num_rows=1, rows=(1,), source_length=7, position=0, max_position=9),
    ),
)
PLAN = StepPlan(
    copies=(RowCopy(source=0, target=2, length=3, cross=0),),
    joins=(Join(source=(4, 5, 6, 7, 8, 9, 2), rows=(1,)),),
    tokens=(5, 1, 6),
    positions=(3, 0, 3),
    source_lengths=(5, 7, 5),
    num_candidates=4,
    adjustments=Adjustments.of([Adjustment(0, 5, penalty=1.2), Adjustment(2, 5, penalty=1.2)]),
)


def with_running(**changes: object) -> SchedulerSnapshot:
    first, second = GOOD.running
    return dataclasses.replace(GOOD, running=(dataclasses.replace(first, **changes), second))


def test_a_good_state_and_plan_have_no_violations() -> None:
    assert check(GOOD) == []
    assert check_plan(PLAN, GOOD) == []


@pytest.mark.parametrize(
    ("snapshot", "problem"),
    [
        (with_running(rows=(0, 1)), "row 1 is owned 2 times"),
        (with_running(rows=(0, 3)), r"rows owned and holes are \[0, 1, 3\], not 0 to 2"),
        (with_running(rows=(0,), num_rows=2), "request 1 owns 1 rows, not 2"),
        (with_running(position=10), "request 1 is at position 10 of 9"),
        (with_running(request_id=3), "request id 3 is there 2 times"),
        (dataclasses.replace(GOOD, holes=(2,)), "row 2 is owned and a hole"),
        (dataclasses.replace(GOOD, max_rows=2), "3 rows reach over max_rows, which is 2"),
        (dataclasses.replace(GOOD, max_rows=3), "request 3 waits for 4 of 3 rows"),
        (dataclasses.replace(GOOD, cached_positions=22), "23 positions are cached, 22 are counted"),
    ],
)
def test_violations_in_a_state(snapshot: SchedulerSnapshot, problem: str) -> None:
    assert re.search(problem, "; ".join(check(snapshot)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"tokens": (5, 1)}, "the plan steps 2 rows; 3 are owned"),
        ({"positions": (3, 0)}, "3 tokens, 2 positions, 3 source lengths"),
        ({"positions": (3, 0, 2)}, r"row 2: position and source length are \(2, 5\) in the plan, not \(3, 5\)"),
        ({"source_lengths": (5, 7, 7)}, r"row 2: .* \(3, 7\) in the plan, not \(3, 5\)"),
        ({"num_candidates": 0}, "num_candidates is 0"),
        ({"copies": (RowCopy(0, 0, 3),)}, "bad source"),
        ({"copies": (RowCopy(0, 3, 3),)}, "bad target"),
        ({"copies": (RowCopy(0, 1, 3),)}, "row 1 is copied to and joined"),
        ({"joins": ()}, r"rows \[\] are joined, rows \[1\] begin"),
        ({"adjustments": Adjustments.of([Adjustment(0, 5), Adjustment(0, 5)])}, "row 0, token 5: 2 adjustments"),
        ({"adjustments": Adjustments.of([Adjustment(3, 5)])}, "row 3: adjusted, not stepped"),
    ],
)
def test_violations_in_a_plan(changes: dict[str, object], problem: str) -> None:
    assert re.search(problem, "; ".join(check_plan(dataclasses.replace(PLAN, **changes), GOOD)))


def test_all_violations_are_reported_at_once() -> None:
    assert len(check(dataclasses.replace(GOOD, max_rows=2))) == 2
