"""The examples of docs/http.md print what stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from support.server_process import server_process

ROOT = Path(__file__).parents[2]
MODELS = [ROOT / "deploy/models/en-de/1", ROOT / "deploy/models/de-en/1"]
_EXAMPLE = re.compile(r"^    (curl (?:.|\\\n)*?[^\\\n])\n\n?((?:    (?!curl).*\n)+)", re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Command and output of each example."""
    found = _EXAMPLE.findall((ROOT / "docs/http.md").read_text())
    return [(command, output.strip()) for command, output in found]


def rounded(text: str) -> object:
    """The output without the last digits of numbers, which depend on the machine."""
    return json.loads(text.removeprefix("data: "), parse_float=lambda number: round(float(number), 3))


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_examples_print_what_stands_there() -> None:
    with server_process(MODELS, "--http-port", "0") as server:
        commands = examples()
        assert len(commands) >= 9
        for command, output in commands:
            run = ["bash", "-c", command.replace("http://localhost:5000", server.url)]
            done = subprocess.run(run, capture_output=True, text=True, timeout=60, check=True)
            assert rounded(done.stdout) == rounded(output), command
