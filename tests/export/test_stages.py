"""What an export says while it runs."""

from __future__ import annotations

import re

import pytest

from dragoman_export.shelf import Shelf
from dragoman_export.stages import show, stage


class Counted(Shelf):
    """Counts how often memory is released."""

    released = 0

    def release(self) -> None:
        self.released += 1


def test_a_stage_says_when_it_begins_and_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    show()
    shelf = Counted()
    with stage("calibration", shelf):
        assert capsys.readouterr().err == "calibration ...\n"
    said = capsys.readouterr().err
    assert re.fullmatch(r"calibration: \d+\.\d s, peak memory so far \d+\.\d\d GiB\n", said)
    assert shelf.released == 1


def test_a_stage_that_fails_has_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    show()
    shelf = Counted()
    with pytest.raises(ZeroDivisionError), stage("calibration", shelf):
        _ = 1 / 0
    assert capsys.readouterr().err == "calibration ...\n"
    assert shelf.released == 1
