from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPTS = sorted(path.name for path in BENCH.glob("*.py") if "def argument_parser" in path.read_text())


@pytest.mark.parametrize("script", SCRIPTS)
def test_scripts_say_how_they_are_used(script: str) -> None:
    """In processes of their own: they change the path, and bring libraries with thread pools."""
    pytest.importorskip("ctranslate2")
    done = subprocess.run([sys.executable, str(BENCH / script), "--help"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: {script}" in done.stdout
