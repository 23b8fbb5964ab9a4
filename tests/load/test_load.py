from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_service.bundle import Bundle
from load.load import load


@pytest.mark.slow
def test_every_call_has_its_answer_and_every_slot_is_free_afterwards(tiny_bundle: Bundle) -> None:
    """The short form of `tests/load/load.py`, which also watches memory: that needs minutes to settle."""
    report = load(Path(tiny_bundle.path), 32, 15, "--max-rows", "16", "--max-queue", "24")
    assert report.problems == []
    assert report.slots_used == report.calls_running == 0
    assert report.outcomes["answered"] > 0
    assert report.outcomes["cancelled"] > 0
    assert report.outcomes["past their deadline"] > 0
