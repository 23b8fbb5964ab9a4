"""The soak script, for some seconds."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from dragoman_service.bundle.bundle import Bundle

SCRIPT = runpy.run_path(str(Path(__file__).with_name("soak.py")))


@pytest.mark.slow
def test_a_short_soak_loses_nothing_and_draws_its_picture(tiny_bundle: Bundle, tmp_path: Path) -> None:
    report = SCRIPT["soak"](tiny_bundle.path, seconds=15, load=0.5, reload_every=2, warm_up=3)
    print(SCRIPT["told"](report, 0.5))
    assert not report.problems
    assert report.slots_used == report.calls_running == 0
    assert len(report.reloads) >= 2
    assert report.outcomes["answered"] > 20
    SCRIPT["draw"](report, tmp_path / "soak.png")
    assert (tmp_path / "soak.png").stat().st_size > 10_000
