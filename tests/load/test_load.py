from __future__ import annotations

from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle
from load.load import load
from support.load import SETTLED_BYTES, LoadReport
from support.parity import SHIPPED


@pytest.mark.slow
def test_a_full_server_loses_no_call_and_frees_every_slot(tiny_bundle: Bundle) -> None:
    """Few rows and a short queue, so that calls wait and are refused. Memory needs longer to settle: see below."""
    check(load(Path(tiny_bundle.path), 32, 15, "--max-rows", "16", "--max-queue", "24"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memory_stops_growing_under_load(tiny_bundle: Bundle) -> None:
    """The server as it comes, with the bundled model if there is one."""
    bundled = (SHIPPED / "manifest.json").exists()
    report = load(SHIPPED if bundled else Path(tiny_bundle.path), 64, 120)
    print(report)
    check(report)
    assert report.memory_growth <= SETTLED_BYTES


def check(report: LoadReport) -> None:
    """Every call had its answer or its proper status, and nothing is left behind."""
    assert report.problems == []
    assert report.slots_used == report.calls_running == 0
    assert report.outcomes["answered"] > 0
    assert report.outcomes["cancelled"] > 0
    assert report.outcomes["past their deadline"] > 0
