"""The memory of an import, which decides which machines can import a large checkpoint."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3]))

from bench.imports import imported
from bench.peers.random_nllb import SHAPES, write_folder

FIXED = 0.9e9
"""Bytes that do not grow with a checkpoint: libraries, a tokenizer of 256,000 pieces, and the attention of a source of
1,022 tokens in float64, with 16 heads, of which four results of 134 MB are in memory at a time."""
LARGEST = (6e9 - FIXED) / 2.46e9
"""Bytes of memory for each byte of a checkpoint in fp32, so that NLLB-200 600M is imported within 6 GB."""


@pytest.mark.slow
def test_the_memory_of_an_import_is_bounded_by_its_checkpoint(tmp_path: Path) -> None:
    size = write_folder(tmp_path / "nllb", SHAPES["quarter"])
    sentences = tmp_path / "sentences.txt"
    sentences.write_text("How much does a ticket to Berlin cost?\n", encoding="utf-8")
    options = ("--precision", "int8", "--sentences", str(sentences), "--calibration", str(sentences))
    _, peak = imported(tmp_path / "nllb", tmp_path / "quarter" / "1", options)
    assert peak < FIXED + LARGEST * size
