"""Clients of others, which run in an environment of their own: see `make clients`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("DRAGOMAN_CLIENTS", ROOT / ".venv-clients")) / "bin" / "python"
needs_clients = pytest.mark.skipif(not PYTHON.exists(), reason="needs `make clients`")
_SECONDS = 120


def run_client(script: str, *arguments: str, **environment: str) -> Any:
    """Run a script of tests/system/clients, with more variables. Returns what it prints, a value of JSON."""
    command = [str(PYTHON), str(ROOT / "tests" / "system" / "clients" / script), *arguments]
    variables = {**os.environ, **environment}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
